"""Writing a model whose own weights were trained, in the names and dtypes of the checkpoint that it came from.

A parameter that the files hold under several names, as where a tied head is stored beside its embedding, is written
under all of them: a file that kept the old head would be read as a model with two matrices, which nobody trained.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedModel

from secateur.contract.errors import UnsupportedModel
from workers.engine.architectures.config import as_config
from workers.engine.architectures.discovery import skeleton
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.block_names import block_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.names_on_disk import names_on_disk
from workers.engine.checkpoints.patch import Change, patch_checkpoint, together


def train_all(model: nn.Module) -> None:
    """Let every parameter be trained."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def check_writable(model: PreTrainedModel, checkpoint: Checkpoint) -> None:
    """Say before a training whether `write_weights` could write what it trains.

    Raises:
        UnsupportedModel: the checkpoint keeps a parameter in another form, such as experts one by one.
    """
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for name in _unwritable(model, checkpoint, trained):
        raise _refused(model.config.model_type, name)


def refuse_unwritable(checkpoint: Checkpoint, *, blocks: Collection[int] | None = None) -> None:
    """The same from the config and the headers, before there is a model to train.

    Args:
        blocks: by number, of which at least one is trained, and nothing else for certain; None: all weights are.

    Raises:
        UnsupportedModel: as `check_writable`, whichever of the blocks it will be.
    """
    model = skeleton(as_config(checkpoint.config))
    found = _unwritable(model, checkpoint, [name for name, _ in model.named_parameters()])
    if blocks is not None:
        prefix = f"{architecture_of(checkpoint.config).blocks_prefix}."
        if not set(blocks) <= {block_of(name, prefix) for name in found}:
            return
        found = [name for name in found if block_of(name, prefix) in blocks]
    for name in found:
        raise _refused(str(checkpoint.config["model_type"]), name)


def _unwritable(model: PreTrainedModel, checkpoint: Checkpoint, trained: Iterable[str]) -> list[str]:
    names = names_on_disk(model, checkpoint)
    return [name for name in trained if not names[name]]


def _refused(family: str, name: str) -> UnsupportedModel:
    return UnsupportedModel.field(
        "trained",
        f"The checkpoint of this {family} model does not hold {name} as it is computed with, so trained weights could "
        "not be written back. Train adapters instead.",
        value=name,
        expected="a training of adapters",
    )


def write_weights(model: PreTrainedModel, source: Checkpoint, target: Path) -> None:
    """Write the checkpoint `source` with the trained weights of `model`, rounded to the dtypes on disk.

    Raises:
        UnsupportedModel: as `check_writable`.
    """
    check_writable(model, source)
    names = names_on_disk(model, source)
    changes: dict[str, Change] = {}
    for name, parameter in model.named_parameters():  # a shared one comes once, and has all names of its sharers
        if parameter.requires_grad:
            changes.update(together(source, names[name], _to(parameter)))
    patch_checkpoint(source, target, changes)


def _to(parameter: nn.Parameter) -> Change:
    def change(_: Tensor) -> Tensor:
        return parameter.detach()

    return change
