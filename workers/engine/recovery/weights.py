"""Writing a model whose own weights were trained, in the names and dtypes of the checkpoint that it came from."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedModel

from app.errors import UnsupportedModel
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.patch import Change, name_on_disk, patch_checkpoint


def stored_names(model: PreTrainedModel, checkpoint: Checkpoint) -> dict[str, nn.Parameter]:
    """Each parameter that requires a gradient, by its name in the checkpoint.

    Raises:
        UnsupportedModel: the checkpoint keeps one in another form, such as experts one by one.
    """
    names = set(checkpoint.names())
    prefix = architecture_of(model.config).base_prefix
    found = {}
    for name, parameter in model.named_parameters():  # a tied head comes once, as the embedding
        if not parameter.requires_grad:
            continue
        stored = name_on_disk(names, name, base_prefix=prefix)
        if stored is None or checkpoint.shape(stored) != tuple(parameter.shape):
            raise UnsupportedModel(
                f"The checkpoint of this {model.config.model_type} model does not hold {name} as it is computed with, "
                "so trained weights could not be written back. Train adapters instead."
            )
        found[stored] = parameter
    return found


def write_weights(model: PreTrainedModel, source: Path, target: Path) -> None:
    """Write the checkpoint `source` with the trained weights of `model`, rounded to the dtypes on disk."""
    checkpoint = Checkpoint.open(source)
    changes = {name: _to(parameter) for name, parameter in stored_names(model, checkpoint).items()}
    patch_checkpoint(checkpoint, target, changes)


def _to(parameter: nn.Parameter) -> Change:
    def change(_: Tensor) -> Tensor:
        return parameter.detach()

    return change
