"""GPTQ against the plain form of its own algorithm, what it gains over rounding to nearest, and resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import StageFailed
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import load_model
from workers.engine.quantise import gptq as module
from workers.engine.quantise.gptq import found_in, gptq, round_by
from workers.engine.quantise.integers import Rounded, round_to_integers
from workers.engine.quantise.linear_weights import quantise_linear, targets_of

CPU = torch.device("cpu")
DAMPENING = 0.01


def _inputs(columns: int, *, seed: int = 0) -> Tensor:
    """(tokens, columns), of a few directions mostly, as states of a language model are."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator) * torch.logspace(0, -2, columns)[:, None]
    return torch.randn(400, columns, generator=generator) @ mixing


def _plain(weight: Tensor, moments: Tensor, scales: Tensor, bits: int) -> Tensor:
    """Optimal brain quantisation in a fixed order, in fp64: after each column its row of H⁻¹ is eliminated."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    columns = weight.shape[1]
    work, wide = weight.double().clone(), scales.double().repeat_interleave(columns // scales.shape[1], dim=1)
    damped = moments.double() + torch.eye(columns) * DAMPENING * float(moments.diagonal().double().mean())
    inverse = torch.linalg.inv(damped)
    integers = torch.zeros_like(work)
    for column in moments.diagonal().argsort(descending=True, stable=True).tolist():
        integers[:, column] = (work[:, column] / wide[:, column]).round().clamp(low, high)
        error = (work[:, column] - integers[:, column] * wide[:, column]) / inverse[column, column]
        work -= error[:, None] * inverse[column]
        inverse = inverse - inverse[:, column, None] * inverse[column] / inverse[column, column]
        inverse[column, column] = 1.0  # gone, and never divided by again
    return integers


@pytest.mark.parametrize(("bits", "group_size"), [(4, 16), (4, None), (8, 16)])
def test_it_is_the_plain_algorithm(bits: int, group_size: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOGETHER", 20)  # 48 columns are then no whole number of batches
    weight, inputs = torch.randn(24, 48, generator=torch.Generator().manual_seed(1)), _inputs(48)
    moments = inputs.T @ inputs
    found = round_by(weight, moments, bits=bits, group_size=group_size, dampening=DAMPENING)
    plain = _plain(weight, moments, found.scales, bits)
    same = (found.values == plain).double().mean()
    assert same > 0.98  # rounding of the arithmetic itself may tip a tie, and what follows it
    assert int((found.values - plain).abs().max()) <= 1


@pytest.mark.parametrize("bits", [4, 8])
def test_outputs_change_less_than_by_rounding_to_nearest(bits: int) -> None:
    weight, inputs = torch.randn(32, 64, generator=torch.Generator().manual_seed(2)), _inputs(64)
    found = round_by(weight, inputs.T @ inputs, bits=bits, group_size=16, dampening=DAMPENING)
    nearest = round_to_integers(weight, bits=bits, group_size=16, scale_dtype=torch.bfloat16)

    def output_error(result: Rounded) -> float:
        values = result.values.float() * result.scales.float().repeat_interleave(16, dim=1)
        return float((inputs @ (weight - values).T).square().sum())

    assert output_error(found) < 0.7 * output_error(nearest)
    assert torch.equal(found.scales, nearest.scales)
    assert found.squared_error > nearest.squared_error  # the weights themselves are further away
    assert found.squared_sum == nearest.squared_sum


def test_inputs_that_are_always_zero_do_not_matter() -> None:
    inputs = _inputs(32)
    inputs[:, 5] = 0
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(3))
    found = round_by(weight, inputs.T @ inputs, bits=4, group_size=32, dampening=DAMPENING)
    nearest = round_to_integers(weight, bits=4, group_size=32, scale_dtype=torch.bfloat16)
    assert torch.equal(found.values[:, 5], nearest.values[:, 5])
    silent = round_by(weight, torch.zeros(32, 32), bits=4, group_size=32, dampening=DAMPENING)
    assert torch.equal(silent.values, nearest.values)


def test_moments_that_overflowed_are_an_error() -> None:
    with pytest.raises(StageFailed, match="overflow"):
        round_by(torch.ones(2, 4), torch.full((4, 4), torch.inf), bits=4, group_size=4, dampening=DAMPENING)


def _walk(path: Path, ids: Tensor, scratch: Path, **more: Any) -> None:
    checkpoint = Checkpoint.open(path)
    gptq(
        more.pop("model", None)
        or BlockModel.from_model(load_model(Checkpoint.open(path), device=CPU, dtype=torch.float32)),
        checkpoint,
        ids,
        targets_of(checkpoint, group_size=16).tensors,
        bits=4,
        group_size=16,
        dampening=DAMPENING,
        scratch=scratch,
        **more,
    )


@pytest.mark.parametrize("family", ["llama", "qwen2", "opt", "phi3"])
def test_a_checkpoint_predicts_better_than_by_rounding_to_nearest(
    family: str,
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    model, ids = make_model(family), make_ids(64, 24)
    path = save_model(model)
    _walk(path, ids, tmp_path / "walk")
    quantise_linear(Checkpoint.open(path), tmp_path / "gptq", bits=4, group_size=16, found=found_in(tmp_path / "walk"))
    quantise_linear(Checkpoint.open(path), tmp_path / "nearest", bits=4, group_size=16)
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        errors = {
            name: float(
                (
                    load_model(Checkpoint.open(tmp_path / name), device=CPU, dtype=torch.float32)(ids).logits - expected
                ).norm()
            )
            for name in ("gptq", "nearest")
        }
    assert errors["gptq"] < 0.9 * errors["nearest"]


def test_a_killed_walk_goes_on_and_a_streamed_one_gives_the_same(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    path, ids = save_model(make_model()), make_ids(16, 24)
    before = {file.name: file.read_bytes() for file in path.iterdir()}

    def killed(done: int, total: int, unit: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _walk(path, ids, tmp_path / "killed", progress=killed)
    first = tmp_path / "killed" / "block-0.safetensors"
    written = first.stat().st_mtime_ns
    _walk(path, ids, tmp_path / "killed")
    assert first.stat().st_mtime_ns == written
    _walk(path, ids, tmp_path / "whole")
    streamed = BlockModel.from_checkpoint(Checkpoint.open(path), device="cpu", dtype=torch.float32)
    _walk(path, ids, tmp_path / "streamed", model=streamed)
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "killed" / file.name).read_bytes() == file.read_bytes()
        assert (tmp_path / "streamed" / file.name).read_bytes() == file.read_bytes()
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert found_in(tmp_path / "whole")("model.embed_tokens.weight") is None
