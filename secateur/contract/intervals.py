"""Values with their intervals, and the mean of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over tasks. Items of different tasks are independent, so reaches of intervals add in quadrature."""
    count = len(estimates)
    mean = sum(one.value for one in estimates) / count
    below, above = [], []
    for one in estimates:
        if one.low is None or one.high is None:
            return Estimate(mean)
        below.append(max(0.0, one.value - one.low))
        above.append(max(0.0, one.high - one.value))
    return Estimate(mean, mean - hypot(*below) / count, mean + hypot(*above) / count)
