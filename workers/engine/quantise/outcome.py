"""What any way to quantise says of its result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """Sizes and the error of the rounding."""

    bytes: int  # of all tensors
    quantised_parameters: int
    other_parameters: int
    bits_per_weight: float  # of the quantised ones, scales included
    relative_error: float  # root of (sum of squared errors / sum of squares)
