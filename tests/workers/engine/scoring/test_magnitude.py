"""Magnitude against a plain sum over named weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from secateur.contract.options.scoring import MagnitudeScoring
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.scoring import magnitude
from workers.engine.scoring.task import ScoringTask


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gpt2", "opt", "mixtral"])
def test_equals_the_sum_of_absolute_weights_in_memory_and_streamed(
    model_type: str, make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    model = make_model(model_type)
    view = BlockModel.from_model(model)
    prefix = view.architecture.blocks_prefix
    expected = [
        sum(
            float(parameter.detach().double().abs().sum())
            for name, parameter in model.named_parameters()
            if name.startswith(f"{prefix}.{block}.") and not name.endswith("bias")
        )
        for block in range(4)
    ]
    streamed = BlockModel.from_checkpoint(Checkpoint.open(save_model(model)), device="cpu", dtype=torch.float32)
    for source in (view, streamed):
        scores = magnitude.score(ScoringTask(source, None, MagnitudeScoring(criterion="magnitude")))
        assert scores.values == pytest.approx(expected, rel=1e-9)
        assert scores.order == sorted(range(4), key=lambda block: expected[block])
        assert scores.standard_errors is None
