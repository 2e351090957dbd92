"""What was fitted, written: a pruned checkpoint with what is added to the weights of blocks of the original."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from workers.engine.architectures.config import as_config
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.block_names import block_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.names_on_disk import names_on_disk
from workers.engine.checkpoints.own_loader import family_config, needs_loader
from workers.engine.checkpoints.patch import Change, patch_checkpoint, together
from workers.engine.healing.projections import BlockChange
from workers.engine.model.streaming import empty_model

NamesInBlocks = dict[tuple[int, str], tuple[str, ...]]  # (block of the original, parameter in it) → names on disk


def write_changes(
    checkpoint: Checkpoint, names: NamesInBlocks, changes: Mapping[int, BlockChange], target: Path
) -> None:
    """Write the pruned checkpoint to `target` with what is added to the parameters of blocks of the original."""
    on_disk: dict[str, Change] = {}
    for block, change in changes.items():
        for name, added in change.items():
            on_disk.update(together(checkpoint, names[block, name], _adding(added)))
    shutil.rmtree(target, ignore_errors=True)
    patch_checkpoint(checkpoint, target, on_disk)


def names_in_blocks(checkpoint: Checkpoint, kept: Sequence[int]) -> NamesInBlocks:
    """(Block of the original, name of a parameter in it) → the names that hold it in the pruned checkpoint.

    What the checkpoint holds in another form, such as experts one by one, or has lost, cannot be changed and is left
    out.

    Args:
        kept: blocks of the original that the pruned model has, ascending.
    """
    whole = family_config(checkpoint.config) if needs_loader(checkpoint.config) else checkpoint.config
    config = as_config(whole)
    prefix = f"{architecture_of(config).blocks_prefix}."
    found = {}
    for name, held in names_on_disk(empty_model(config, torch.float32), checkpoint).items():
        number = block_of(name, prefix)
        if number is not None and held:
            found[kept[number], name.removeprefix(f"{prefix}{number}.")] = tuple(held)
    return found


def _adding(added: Tensor) -> Change:
    def change(weight: Tensor) -> Tensor:
        return weight + added

    return change
