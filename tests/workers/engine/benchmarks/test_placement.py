"""Weights in memory of their own: the same numbers, elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from workers.engine.benchmarks.placement import CACHE_LINE, place_weights
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import load_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoints_weights_leave_its_file_unchanged_and_on_cache_lines(
    make_model: Callable[..., PreTrainedModel], tmp_path: Path, dtype: torch.dtype
) -> None:
    model: Any = make_model(tie_word_embeddings=True)
    model.to(dtype).save_pretrained(tmp_path)
    loaded: Any = load_model(Checkpoint.open(tmp_path), device=torch.device("cpu"), dtype=dtype)
    placed: Any = load_model(Checkpoint.open(tmp_path), device=torch.device("cpu"), dtype=dtype)
    place_weights(placed)
    (tmp_path / "model.safetensors").unlink()
    for (name, before), after in zip(loaded.named_parameters(), placed.parameters(), strict=True):
        assert torch.equal(before, after), name
        assert after.dtype == dtype, name
        assert after.data_ptr() % CACHE_LINE == 0, name
        assert after.data_ptr() != before.data_ptr(), name
        assert after.requires_grad == before.requires_grad, name
    assert placed.get_output_embeddings().weight is placed.get_input_embeddings().weight
    tokens = torch.arange(8)[None]
    torch.testing.assert_close(placed(tokens).logits, loaded(tokens).logits)


def test_what_has_no_weights_is_left_alone() -> None:
    place_weights(nn.ReLU())
    empty = nn.Parameter(torch.empty(0, 3))
    place_weights(nn.ParameterList([empty]))
    assert empty.shape == (0, 3)


def test_weights_on_another_device_stay_there() -> None:
    layer = nn.Linear(2, 3, device="meta")
    weight = layer.weight
    place_weights(layer)
    assert layer.weight is weight
    assert weight.device.type == "meta"
