"""How much memory a model would take at a depth that was not measured: memory = a + b · blocks, by least squares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """Memory without so many blocks."""

    original: float
    per_block: float
    residual: float  # how far a depth that was measured lies off the line, at most

    def at(self, removed: int) -> float:
        return self.original - self.per_block * removed


def fitted(peaks: Mapping[int, float]) -> Line:
    """The line through what was measured, by blocks removed: at least two depths."""
    count = len(peaks)
    mean_removed, mean = sum(peaks) / count, sum(peaks.values()) / count
    spread = sum((removed - mean_removed) ** 2 for removed in peaks)
    slope = sum((removed - mean_removed) * (peak - mean) for removed, peak in peaks.items()) / spread
    start = mean - slope * mean_removed
    residual = max(abs(start + slope * removed - peak) for removed, peak in peaks.items())
    return Line(start, -slope, residual)
