"""Scales that round weights with the least squared error, for the K types of GGUF.

A K type has two levels. A group of 16 or 32 weights has a scale (and maybe an offset) of its own, and those of the
groups of a super-block of 256 are whole multiples of one number each, which is stored in float16. So first the best
scale of each group is searched for: a few widths of the grid are tried, and for the integers that each gives, least
squares gives the scale. Then the groups' scales are put on the super-block's grid, and what that spoils is mended: with
the integers at hand, least squares gives the super-block's two numbers anew, and the nearer result stays.

All weights of a group count alike. llama.cpp's own quantiser lets large ones count more, and starts from the largest
scale of a super-block; on the weights that were tried this search is nearer in every type (docs/benchmarks.md).

Formats: https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h, `block_q2_K` to `block_q6_K`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_HALF_MAX = 65504.0  # the largest float16
_AFFINE_STEPS = tuple(step / 10 for step in range(-10, 11))  # by how much more or fewer levels the range is cut into
_SYMMETRIC_STEPS = tuple(step / 10 for step in range(-9, 10, 3))
_REFITS = 2


@dataclass(frozen=True)
class Affine:
    """Weights as scale · scales · integers − offset · offsets."""

    scale: Tensor  # (blocks), float16 in float32
    offset: Tensor  # (blocks)
    scales: Tensor  # (blocks, groups), whole numbers from 0
    offsets: Tensor  # (blocks, groups)
    integers: Tensor  # (blocks, groups, weights), from 0


@dataclass(frozen=True)
class Symmetric:
    """Weights as scale · scales · integers, both signed."""

    scale: Tensor  # (blocks), float16 in float32
    scales: Tensor  # (blocks, groups)
    integers: Tensor  # (blocks, groups, weights)


def affine(weights: Tensor, *, levels: int, scale_levels: int) -> Affine:
    """The nearest weights of a type with offsets.

    Args:
        weights: (blocks, groups, weights of a group), float32.
        levels: the largest integer of a weight; the smallest is 0.
        scale_levels: that of a group's scale and offset.
    """
    scales, offsets = _affine_groups(weights, levels)
    scale, offset = scales.amax(-1) / scale_levels, offsets.amax(-1) / scale_levels
    found, error = _affine_rounded(
        weights, scale, offset, _on_grid(scales, scale, scale_levels), _on_grid(offsets, offset, scale_levels), levels
    )
    for _ in range(_REFITS):
        sums = _Sums.of(weights, found.integers)
        scale, offset = _affine_refit(sums, found)
        scales, offsets = sums.line()
        scales = _on_grid(scales, scale, scale_levels)
        left = (scales * scale[:, None]) * sums.q - sums.x  # what the offsets of these scales have to make up for
        offsets = _on_grid(left / weights.shape[-1], offset, scale_levels)
        for candidate in ((found.scales, found.offsets), (scales, offsets)):
            other, other_error = _affine_rounded(weights, scale, offset, *candidate, levels)
            nearer = other_error < error
            error = torch.where(nearer, other_error, error)
            found = Affine(
                scale=torch.where(nearer, other.scale, found.scale),
                offset=torch.where(nearer, other.offset, found.offset),
                scales=torch.where(nearer[:, None], other.scales, found.scales),
                offsets=torch.where(nearer[:, None], other.offsets, found.offsets),
                integers=torch.where(nearer[:, None, None], other.integers, found.integers),
            )
    return found


def symmetric(weights: Tensor, *, levels: int, scale_levels: int) -> Symmetric:
    """The nearest weights of a type without offsets.

    Args:
        weights: (blocks, groups, weights of a group), float32.
        levels: integers go from −levels to levels − 1.
        scale_levels: and those of a group's scale likewise.
    """
    scales, strength = _symmetric_groups(weights, torch.ones(()), levels)
    scale, _ = _symmetric_groups(scales, strength, scale_levels)
    scale = _half(scale)
    on_grid = _divided(scales, scale[:, None]).round_().clamp_(-scale_levels, scale_levels - 1)
    steps = (scale[:, None] * on_grid)[..., None]
    return Symmetric(scale, on_grid, _divided(weights, steps).round_().clamp_(-levels, levels - 1))


@dataclass(frozen=True)
class _Sums:
    """Sums over each group of weights x and integers q, (blocks, groups)."""

    count: int
    x: Tensor
    q: Tensor
    qq: Tensor
    qx: Tensor

    @classmethod
    def of(cls, weights: Tensor, integers: Tensor) -> _Sums:
        return cls(
            weights.shape[-1],
            weights.sum(-1),
            integers.sum(-1),
            torch.linalg.vecdot(integers, integers),
            torch.linalg.vecdot(integers, weights),
        )

    def line(self) -> tuple[Tensor, Tensor]:
        """Scale and offset of x ≈ scale · q − offset by least squares, the offset at least 0."""
        determinant = self.count * self.qq - self.q * self.q
        scale = _divided(self.count * self.qx - self.x * self.q, determinant)
        offset = _divided(self.q * self.qx - self.qq * self.x, determinant)
        through_zero = offset < 0
        scale = torch.where(through_zero, _divided(self.qx, self.qq), scale)
        return scale.clamp(min=0), offset.clamp(min=0)


def _affine_groups(weights: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """The best scale and offset of each group by itself, (blocks, groups)."""
    low = weights.amin(-1, keepdim=True).clamp_(max=0)
    span = weights.amax(-1, keepdim=True) - low
    part = _divided(weights - low, span)  # 0 to 1
    squares = torch.linalg.vecdot(weights, weights)
    scales, offsets = span.squeeze(-1) / levels, -low.squeeze(-1)  # these stay where all weights are one and the same
    least = torch.full_like(squares, torch.inf)
    for step in _AFFINE_STEPS:
        sums = _Sums.of(weights, (part * (levels + step)).round_().clamp_(0, levels))
        scale, offset = sums.line()
        error = squares - 2 * scale * sums.qx + 2 * offset * sums.x
        error += scale * scale * sums.qq - 2 * scale * offset * sums.q + sums.count * offset * offset
        nearer = (error < least) & (scale > 0)
        least = torch.where(nearer, error, least)
        scales, offsets = torch.where(nearer, scale, scales), torch.where(nearer, offset, offsets)
    return scales, offsets


def _affine_refit(sums: _Sums, found: Affine) -> tuple[Tensor, Tensor]:
    """The super-block's scale and offset by least squares, its other numbers as they are; (blocks) each."""
    a = (found.scales * found.scales * sums.qq).sum(-1)
    b = (found.scales * found.offsets * sums.q).sum(-1)
    c = (found.offsets * found.offsets).sum(-1) * sums.count
    p = (found.scales * sums.qx).sum(-1)
    o = (found.offsets * sums.x).sum(-1)
    determinant = a * c - b * b
    scale, offset = _divided(p * c - o * b, determinant), _divided(p * b - o * a, determinant)
    usable = (scale > 0) & (offset >= 0)
    return _half(torch.where(usable, scale, found.scale)), _half(torch.where(usable, offset, found.offset))


def _affine_rounded(
    weights: Tensor, scale: Tensor, offset: Tensor, scales: Tensor, offsets: Tensor, levels: int
) -> tuple[Affine, Tensor]:
    """The weights on these grids, and the squared error of each super-block."""
    scale, offset = _half(scale), _half(offset)
    steps, shifts = (scale[:, None] * scales)[..., None], (offset[:, None] * offsets)[..., None]
    integers = _divided(weights + shifts, steps).round_().clamp_(0, levels)
    error = (steps * integers).sub_(shifts).sub_(weights).square_().sum((-1, -2))
    return Affine(scale, offset, scales, offsets, integers), error


def _symmetric_groups(weights: Tensor, counts: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """The best scale of each group by itself, and the sum of its squared integers.

    Args:
        weights: (…, weights of a group).
        counts: how much each weight counts, in a shape that goes with the weights'.
    """
    largest = weights.gather(-1, weights.abs().argmax(-1, keepdim=True))
    part = _divided(weights, -largest)  # the range is longer below 0, so the largest goes there
    scales = torch.zeros(weights.shape[:-1])
    best, strength = torch.zeros_like(scales), torch.zeros_like(scales)
    for step in _SYMMETRIC_STEPS:
        q = (part * (levels + step)).round_().clamp_(-levels, levels - 1)
        counted = q * counts
        qq, qx = torch.linalg.vecdot(counted, q), torch.linalg.vecdot(counted, weights)
        explained = _divided(qx * qx, qq)
        nearer = explained > best
        best = torch.where(nearer, explained, best)
        scales, strength = torch.where(nearer, _divided(qx, qq), scales), torch.where(nearer, qq, strength)
    return scales, strength


def _on_grid(numbers: Tensor, step: Tensor, most: int) -> Tensor:
    return _divided(numbers, _half(step)[:, None]).round_().clamp_(0, most)


def _half(numbers: Tensor) -> Tensor:
    """As float16 holds them."""
    return numbers.clamp(-_HALF_MAX, _HALF_MAX).half().float()


def _divided(numbers: Tensor, by: Tensor) -> Tensor:
    """The quotient; 0 where the divisor is 0."""
    return torch.where(by != 0, numbers / by, 0.0)
