"""Weights as integers with a scale for each group: rounding to nearest, with the scale that rounds best.

A group of weights w becomes q = round(w / s) in -2^(b-1) … 2^(b-1)-1, and w ≈ s · q: symmetric, no zero point, so that
every reader of the format computes the same. The scale that just holds the largest weight is rarely the best one: a
single outlier makes all the others coarse. So the scales from there down to about half of it are tried, and the one
with the least squared error is taken, group by group (the grid search of Nagel et al. 2021, "A White Paper on Neural
Network Quantization", arXiv 2106.08295, section 3.1). No text is needed for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SHRINK = tuple(1.0 - 0.05 * step for step in range(10))  # of the scale that holds the largest weight
_AT_ONCE = 1 << 17  # weights that are worked on together: they stay in the processor's cache


@dataclass(frozen=True)
class Rounded:
    """One matrix as integers."""

    values: Tensor  # int8, the shape of the matrix
    scales: Tensor  # (rows, groups), in the dtype in which they are stored
    squared_error: float  # sum over the matrix
    squared_sum: float  # of the matrix itself


def round_to_integers(weight: Tensor, *, bits: int, group_size: int | None, scale_dtype: torch.dtype) -> Rounded:
    """Round a matrix.

    Args:
        weight: (rows, columns).
        bits: 8 or 4.
        group_size: neighbouring columns of a row that share a scale, a divisor of the columns; None: the whole row.
        scale_dtype: the scales are rounded to it first, so that the integers fit the scales that are stored.
    """
    step = max(1, _AT_ONCE // weight.shape[1])
    parts = [_round(rows, bits, group_size or weight.shape[1], scale_dtype) for rows in torch.split(weight, step)]
    return Rounded(
        values=torch.cat([part.values for part in parts]),
        scales=torch.cat([part.scales for part in parts]),
        squared_error=sum(part.squared_error for part in parts),
        squared_sum=sum(part.squared_sum for part in parts),
    )


def _round(weight: Tensor, bits: int, group_size: int, scale_dtype: torch.dtype) -> Rounded:
    rows, columns = weight.shape
    groups = weight.float().reshape(rows, -1, group_size)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    most = groups.abs().amax(-1, keepdim=True) / (high + 0.5)  # the largest weight is off by half a step at most
    most = torch.where(most > 0, most, torch.ones_like(most))  # a group of zeros: any scale will do
    best_error, best_scale = torch.full_like(most, torch.inf), most
    for shrink in _SHRINK:
        scale = (most * shrink).to(scale_dtype).float()
        scale = torch.where(scale > 0, scale, most)  # too small for the dtype
        error = ((groups / scale).round_().clamp_(low, high).mul_(scale) - groups).square_().sum(-1, keepdim=True)
        better = error < best_error
        best_error, best_scale = torch.where(better, error, best_error), torch.where(better, scale, best_scale)
    return Rounded(
        values=(groups / best_scale).round_().clamp_(low, high).to(torch.int8).reshape(rows, columns),
        scales=best_scale.squeeze(-1).to(scale_dtype),
        squared_error=float(best_error.sum(dtype=torch.float64)),
        squared_sum=float(groups.square().sum(dtype=torch.float64)),
    )
