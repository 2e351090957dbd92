"""Whether trained weights can be written back is known from config and headers, on every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from secateur.contract.errors import UnsupportedModel
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import load_model
from workers.engine.recovery.weights import check_writable, refuse_unwritable, train_all


def value_of(call: Callable[[], None]) -> str | None:
    """The parameter that stands in the way."""
    try:
        call()
    except UnsupportedModel as error:
        (field,) = error.errors
        assert field.pointer == "trained"
        assert field.expected
        return str(field.value)
    return None


def test_the_files_tell_what_the_loaded_model_does(
    family: str, make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    folder = save_model(make_model(family))
    checkpoint = Checkpoint.open(folder)
    model = load_model(Checkpoint.open(folder), device=torch.device("cpu"), dtype=torch.float32)
    train_all(model)
    found = value_of(lambda: check_writable(model, checkpoint))
    assert value_of(lambda: refuse_unwritable(checkpoint)) == found
    assert (found is not None) == (family in ("mixtral", "qwen2_moe", "qwen3_moe"))


def test_blocks_that_may_not_be_trained_are_no_reason(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    checkpoint = Checkpoint.open(save_model(make_model("qwen2_moe")))  # its block 1 is dense
    refuse_unwritable(checkpoint, blocks=[0, 1, 2, 3])
    refuse_unwritable(checkpoint, blocks=[1])
    with pytest.raises(UnsupportedModel, match=r"layers\.3\.mlp"):
        refuse_unwritable(checkpoint, blocks=[3])
