"""Rounding of matrices to integers, against plain arithmetic."""

from __future__ import annotations

import pytest
import torch

from workers.engine.quantise.integers import round_to_integers

MATRIX = torch.randn((6, 64), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("group_size", [None, 16])
def test_integers_times_scales_are_the_matrix_within_half_a_step(bits: int, group_size: int | None) -> None:
    found = round_to_integers(MATRIX, bits=bits, group_size=group_size, scale_dtype=torch.float32)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    assert found.values.dtype == torch.int8
    assert low <= int(found.values.min())
    assert int(found.values.max()) <= high
    size = group_size or 64
    assert found.scales.shape == (6, 64 // size)
    back = found.values.float() * found.scales.repeat_interleave(size, dim=1)
    assert found.squared_error == pytest.approx(float((back - MATRIX).square().sum()), rel=1e-4)
    assert found.squared_sum == pytest.approx(float(MATRIX.square().sum()), rel=1e-4)
    within = MATRIX.abs() <= found.scales.repeat_interleave(size, dim=1) * high  # those that the scale can say
    steps = (back - MATRIX).abs() / found.scales.repeat_interleave(size, dim=1)
    assert float(steps[within].max()) <= 0.5 + 1e-4


def test_no_scale_of_the_grid_is_better() -> None:
    """A brute force over the same grid, group by group."""
    found = round_to_integers(MATRIX, bits=4, group_size=32, scale_dtype=torch.float32)
    for row in range(6):
        for group in range(2):
            weights = MATRIX[row, 32 * group : 32 * group + 32]
            tried = {}
            for shrink in (1.0 - 0.05 * step for step in range(10)):
                scale = float(weights.abs().max()) / 7.5 * shrink
                tried[scale] = float(((weights / scale).round().clamp(-8, 7) * scale - weights).square().sum())
            assert float(found.scales[row, group]) == pytest.approx(min(tried, key=lambda s: tried[s]), rel=1e-5)


def test_an_outlier_costs_its_group_only() -> None:
    spoilt = MATRIX.clone()
    spoilt[0, 0] = 100.0
    plain, found = (
        round_to_integers(matrix, bits=8, group_size=16, scale_dtype=torch.float32) for matrix in (MATRIX, spoilt)
    )
    assert torch.equal(plain.values[:, 16:], found.values[:, 16:])
    assert not torch.equal(plain.values[0, :16], found.values[0, :16])


def test_zeros_and_tiny_weights_stay_finite() -> None:
    tiny = torch.cat([torch.zeros(1, 32), torch.full((1, 32), 1e-12)])
    found = round_to_integers(tiny, bits=4, group_size=32, scale_dtype=torch.float16)  # the scale is below its least
    assert torch.equal(found.values[0], torch.zeros(32, dtype=torch.int8))
    assert torch.isfinite(found.scales.float()).all()


def test_rows_are_worked_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = round_to_integers(MATRIX, bits=4, group_size=16, scale_dtype=torch.bfloat16)
    monkeypatch.setattr("workers.engine.quantise.integers._AT_ONCE", 100)
    parts = round_to_integers(MATRIX, bits=4, group_size=16, scale_dtype=torch.bfloat16)
    assert torch.equal(whole.values, parts.values)
    assert torch.equal(whole.scales, parts.scales)
    assert whole.squared_error == pytest.approx(parts.squared_error)
