"""The K types: read back by the `gguf` package, and nearer than plain rounding on the same grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize
from torch import Tensor

from workers.engine.quantise.k_types import K_TYPES, quantise_rows

# Type → weights of a group, levels, levels of the scales, and whether it has offsets
GRIDS: dict[str, tuple[int, int, int, bool]] = {
    "Q2_K": (16, 3, 15, True),
    "Q3_K": (16, 4, 32, False),
    "Q4_K": (32, 15, 63, True),
    "Q5_K": (32, 31, 63, True),
    "Q6_K": (16, 32, 128, False),
}
# What the search gives for normal weights, which nobody's change may make worse.
ERRORS = {"Q2_K": 0.27, "Q3_K": 0.145, "Q4_K": 0.0715, "Q5_K": 0.0358, "Q6_K": 0.0174}


def back(values: Tensor, type_name: str) -> Tensor:
    raw = quantise_rows(values, type_name)
    return torch.from_numpy(np.array(dequantize(raw, gguf.GGMLQuantizationType[type_name])))


def relative(found: Tensor, values: Tensor) -> float:
    return float((found - values).norm() / values.norm())


def nearest(values: Tensor, type_name: str) -> Tensor:
    """The plain way: the range of each group sets its scale, the largest scale that of the super-block."""
    size, levels, scale_levels, offsets = GRIDS[type_name]
    groups = values.reshape(-1, 256 // size, size)
    if offsets:
        low = groups.amin(-1).clamp(max=0)
        scales, shifts = (groups.amax(-1) - low) / levels, -low
        step, shift = (part.amax(-1, keepdim=True).half().float() / scale_levels for part in (scales, shifts))
        scales, shifts = (scales / step).round() * step, ((shifts / shift).round() * shift).nan_to_num()
        whole = ((groups + shifts[..., None]) / scales[..., None]).round().clamp(0, levels)
        return (whole * scales[..., None] - shifts[..., None]).reshape(values.shape)
    scales = groups.abs().amax(-1) / (levels - 1)
    step = scales.amax(-1, keepdim=True) / (scale_levels - 1)
    scales = (scales / step).round() * step
    return ((groups / scales[..., None]).round().clamp(-levels, levels - 1) * scales[..., None]).reshape(values.shape)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


SAMPLES: dict[str, Callable[[], Tensor]] = {
    "normal": lambda: normal(64, 512),
    "heavy tails": lambda: normal(64, 512) ** 3,
    "far from 0": lambda: normal(64, 512) + 3,
    "below 0": lambda: normal(64, 512) - 5,
    "rows of unlike size": lambda: normal(64, 512) * torch.logspace(-3, 1, 64)[:, None],
}


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("type_name", K_TYPES)
def test_the_search_is_nearer_than_plain_rounding(type_name: str, sample: str) -> None:
    values = SAMPLES[sample]()
    assert relative(back(values, type_name), values) < relative(nearest(values, type_name), values)


@pytest.mark.parametrize("type_name", K_TYPES)
def test_the_error_on_normal_weights(type_name: str) -> None:
    values = normal(256, 256)
    assert relative(back(values, type_name), values) < ERRORS[type_name]


@pytest.mark.parametrize("type_name", K_TYPES)
def test_what_lies_on_the_grid_stays(type_name: str) -> None:
    """Every integer and every scale that the format holds, so that each bit has its place."""
    size, levels, scale_levels, offsets = GRIDS[type_name]
    groups = 256 // size
    generator = torch.Generator().manual_seed(0)
    whole = torch.randint(
        0 if offsets else -levels, levels + 1 if offsets else levels, (512, groups, size), generator=generator
    )
    scales = torch.randint(scale_levels // 2, scale_levels, (512, groups), generator=generator)
    whole[..., 0] = 0 if offsets else -levels  # every group uses its whole range, and every super-block too
    whole[..., 1] = levels if offsets else levels - 1
    scales[:, 0] = scale_levels if offsets else -scale_levels
    values = (whole * scales[..., None]).float() / 64
    if offsets:
        shifts = torch.randint(1, scale_levels, (512, groups), generator=generator)
        shifts[:, 1] = scale_levels
        values -= shifts[..., None] / 4
    values = values.reshape(512, 256)
    found = back(values, type_name)
    exact = (found == values).all(-1)
    assert float(exact.float().mean()) > 0.9, relative(found, values)
    assert relative(found, values) < 0.02


@pytest.mark.parametrize("type_name", K_TYPES)
def test_a_second_rounding_loses_next_to_nothing(type_name: str) -> None:
    once = back(normal(256, 256), type_name)
    assert relative(back(once, type_name), once) < ERRORS[type_name] / 10


@pytest.mark.parametrize("type_name", K_TYPES)
@pytest.mark.parametrize("value", [0.0, 1.0, -0.5, 1e-12, 1e12])
def test_weights_that_are_all_the_same(type_name: str, value: float) -> None:
    found = back(torch.full((2, 256), value), type_name)
    assert torch.isfinite(found).all()
    if abs(value) in (0.0, 1.0, 0.5):
        assert torch.allclose(found, torch.full((2, 256), value), rtol=2e-3)


@pytest.mark.parametrize("type_name", K_TYPES)
def test_parts_and_dtypes_do_not_matter(type_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = normal(3, 5, 512).bfloat16()
    whole = quantise_rows(values, type_name)
    elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_name]]
    assert whole.shape == (3, 5, 512 // elements * size)
    monkeypatch.setattr("workers.engine.quantise.k_types._AT_A_TIME", 7)
    assert np.array_equal(quantise_rows(values.float(), type_name), whole)


def test_every_k_type_is_tried() -> None:
    kinds: Any = gguf.GGMLQuantizationType
    assert set(GRIDS) == set(K_TYPES) == {kind.name for kind in kinds if kind.name.endswith("_K")} - {"Q8_K"}
