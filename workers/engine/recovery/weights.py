"""Writing a model whose own weights were trained, in the names and dtypes of the checkpoint that it came from.

A parameter that the files hold under several names, as where a tied head is stored beside its embedding, is written
under all of them: a file that kept the old head would be read as a model with two matrices, which nobody trained.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedModel

from app.errors import UnsupportedModel
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.names_on_disk import names_on_disk
from workers.engine.checkpoints.patch import Change, patch_checkpoint, together


def check_writable(model: PreTrainedModel, checkpoint: Checkpoint) -> None:
    """Say before a training whether `write_weights` could write what it trains.

    Raises:
        UnsupportedModel: the checkpoint keeps a parameter in another form, such as experts one by one.
    """
    names = names_on_disk(model, checkpoint)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not names[name]:
            raise UnsupportedModel(
                f"The checkpoint of this {model.config.model_type} model does not hold {name} as it is computed with, "
                "so trained weights could not be written back. Train adapters instead."
            )


def write_weights(model: PreTrainedModel, source: Path, target: Path) -> None:
    """Write the checkpoint `source` with the trained weights of `model`, rounded to the dtypes on disk.

    Raises:
        UnsupportedModel: as `check_writable`.
    """
    checkpoint = Checkpoint.open(source)
    check_writable(model, checkpoint)
    names = names_on_disk(model, checkpoint)
    changes: dict[str, Change] = {}
    for name, parameter in model.named_parameters():  # a shared one comes once, and has all names of its sharers
        if parameter.requires_grad:
            changes.update(together(checkpoint, names[name], _to(parameter)))
    patch_checkpoint(checkpoint, target, changes)


def _to(parameter: nn.Parameter) -> Change:
    def change(_: Tensor) -> Tensor:
        return parameter.detach()

    return change
