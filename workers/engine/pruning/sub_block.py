"""Sub-block pruning: a checkpoint without the attention of some blocks and the MLP of others.

BlockPruner (Zhong et al. 2024, arXiv 2406.10594) takes a block for two residual units that need not go together. A
block that lost both goes whole, as in depth pruning, and where nothing else went the checkpoint is a plain one. No
config of transformers can say that a block has lost one of them, so such a checkpoint has the model type "secateur" and
a small file beside the weights that loads it (`modeling_secateur.py`). The model is not loaded to be written: the
tensors of what goes are left out, and the rest is copied (`header_rewrite.py`). So the weights may be quantised: the
quantiser's settings follow the numbers of the blocks, and it finds no linear layer where a half was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.contract.errors import InvalidInput
from secateur.contract.sub_blocks import unit_names
from workers.engine.checkpoints.block_names import block_of
from workers.engine.checkpoints.checkpoint import CONFIG_FILE, Checkpoint
from workers.engine.checkpoints.decilm import is_decilm
from workers.engine.checkpoints.json_file import write_json
from workers.engine.checkpoints.new_folder import new_folder
from workers.engine.checkpoints.own_loader import add_loader, loader_config
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.checkpoints.side_files import copy_side_files
from workers.engine.model.reduced_blocks import HALVES_OF_A_BLOCK, Half
from workers.engine.progress import Progress, no_progress
from workers.engine.pruning.depth import prune_depth, renumber_quantizer_files, renumbering, stack_of
from workers.engine.pruning.depth_config import keep_blocks
from workers.engine.pruning.header_rewrite import NewName, write_renamed
from workers.engine.pruning.sub_block_layout import HalvesLayout, halves_layout

_UNIT = re.compile(r"(0|[1-9]\d{0,5})\.(attention|mlp)")


@dataclass(frozen=True)
class SubBlockPruned:
    """What was removed, and what the model weighs."""

    removed: list[str]  # units, block by block
    kept: list[int]  # blocks that are left, whole or in part, by their old numbers
    dropped: list[int]  # blocks that lost both halves
    parameters_before: int
    parameters_after: int
    bytes_before: int  # of tensors
    bytes_after: int
    needs_loader: bool
    decilm: bool  # whether the config is DeciLM's


def prune_sub_block(
    source: Checkpoint, target: Path, *, drop: Sequence[str], progress: Progress = no_progress
) -> SubBlockPruned:
    """Write the checkpoint `source` without the units `drop` into the new folder `target`.

    The folder appears under its name only when it is complete; after an error nothing is left.

    Args:
        drop: units such as "3.attention" and "5.mlp", in any order.
        progress: counts bytes.

    Raises:
        InvalidInput: `drop` is empty, names a unit twice or one that does not exist, or names all.
        BadCheckpoint: the source has changed since it was opened.
        UnsupportedModel: the halves were not found, or a kept block would work differently under its new number.
        StageFailed: the disk is full, or `target` exists.
    """
    layout = halves_layout(source)
    prefix, count = stack_of(source, layout.architecture)
    halves = halves_to_remove(count, drop)
    removed = [unit for unit in unit_names(count) if unit in set(drop)]
    dropped = [block for block, gone in halves.items() if len(gone) == len(HALVES_OF_A_BLOCK)]
    single = {block: gone[0] for block, gone in halves.items() if len(gone) == 1}
    if not single:
        done = prune_depth(source, target, drop=dropped, progress=progress)
        return SubBlockPruned(removed=removed, needs_loader=False, decilm=False, **vars(done))
    keep = [block for block in range(count) if block not in dropped]
    whole = source.config
    if dropped:
        whole = keep_blocks(source.config, keep, layout.architecture, tensors=source.names())
    renumbered = renumbering(prefix, keep)

    def new_name(name: str) -> NewName:
        return None if goes_with(name, prefix, single, layout) else renumbered(name)

    with new_folder(target) as folder:
        write_renamed(source, folder, new_name, progress=progress)
        copy_side_files(source.path, folder)
        renumber_quantizer_files(folder, source, layout.architecture, keep)
        write_json(folder / CONFIG_FILE, _config(whole, keep, single, layout))
        add_loader(folder)
        pruned = Checkpoint.open(folder)
    return SubBlockPruned(
        removed=removed,
        kept=keep,
        dropped=dropped,
        parameters_before=count_parameters(source.config).total,
        parameters_after=count_parameters(dict(whole)).total
        - sum(layout.removed_parameters(block, half) for block, half in single.items()),
        bytes_before=source.total_bytes,
        bytes_after=pruned.total_bytes,
        needs_loader=True,
        decilm=is_decilm(pruned.config),
    )


def halves_to_remove(count: int, drop: Sequence[str]) -> dict[int, list[Half]]:
    """The halves that each block of a model of `count` blocks loses; of blocks that lose one.

    Raises:
        InvalidInput: over `drop`, as in `prune_sub_block`.
    """
    expected = f'distinct units from "0.attention" to "{count - 1}.mlp", and not all of them'
    if not drop:
        raise InvalidInput.field("drop", "No unit is named.", value=list(drop), expected=expected)
    found: dict[int, list[Half]] = {}
    for unit in drop:
        match = _UNIT.fullmatch(unit)
        if match is None or int(match[1]) >= count:
            detail = f'The model has {count} blocks, and no unit "{unit}".'
            raise InvalidInput.field("drop", detail, value=list(drop), expected=expected)
        half: Half = "attention" if match[2] == "attention" else "mlp"
        if half in found.setdefault(int(match[1]), []):
            raise InvalidInput.field("drop", "A unit is named twice.", value=list(drop), expected=expected)
        found[int(match[1])].append(half)
    if len(drop) == len(HALVES_OF_A_BLOCK) * count:
        raise InvalidInput.field("drop", "No unit would be left.", value=list(drop), expected=expected)
    return dict(sorted(found.items()))


def goes_with(name: str, prefix: str, single: Mapping[int, Half], layout: HalvesLayout) -> bool:
    """Whether a tensor on disk belongs to a half that its block loses."""
    block = block_of(name, prefix)
    if block is None or block not in single:
        return False
    half = layout.halves[single[block]]
    _, made = layout.stored.get(name, (block, ""))  # what is stored otherwise than it is called in the model
    return half.holds(made) or half.holds(name.removeprefix(f"{prefix}{block}."))


def _config(
    config: Mapping[str, Any], keep: Sequence[int], single: Mapping[int, Half], layout: HalvesLayout
) -> dict[str, Any]:
    numbers = {old: new for new, old in enumerate(keep)}
    return loader_config(
        config,
        blocks=layout.architecture.blocks_prefix,
        halves={half: layout.halves[half].to_dict() for half in sorted(set(single.values()))},
        without={str(numbers[block]): [half] for block, half in sorted(single.items())},
    )
