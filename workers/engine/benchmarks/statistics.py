"""Medians and means with bootstrap intervals.

Timings on a shared machine are skewed and have outliers, so nothing here assumes a normal distribution. Plain
percentile intervals are too narrow for small samples; these widen the percentiles as Hesterberg does (2015, "What
Teachers Should Know About the Bootstrap", arXiv 1411.5279, section 5.3: the expanded percentile interval), which
makes the interval of a mean agree with Student's t. Generators are seeded, so the same data give the same interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student  # type: ignore[import-untyped]  # ships no annotations

from secateur.contract.measurements import Interval

RESAMPLES = 10_000
SEED = 20240205
CONFIDENCE = 0.95
_CELLS = 4_000_000  # numbers resampled at once

Floats = NDArray[np.float64]


def median_interval(values: Sequence[float]) -> Interval:
    """The median with its 95 % interval."""
    data = np.asarray(values, dtype=np.float64)
    low, high = _interval(data, mean=False)
    middle = float(np.median(data))
    return Interval(median=middle, low=min(low, middle), high=max(high, middle))


def mean_interval(
    values: Sequence[float] | Floats, *, weights: Sequence[float] | None = None
) -> tuple[float, float, float] | tuple[float, None, None]:
    """The mean with its 95 % interval: (mean, low, high). One value has no interval.

    Args:
        weights: how much each value counts, such as the tokens of a window; resampled with it.
    """
    data = np.asarray(values, dtype=np.float64)
    if len(data) == 1:
        return float(data[0]), None, None
    if weights is None or len(set(weights)) == 1:
        low, high = _interval(data, mean=True)
        return float(data.mean()), low, high
    weighed = np.asarray(weights, dtype=np.float64)
    low, high = _interval(data, mean=True, weights=weighed)
    return float((data * weighed).sum() / weighed.sum()), low, high


def drop_interval(
    before: Sequence[float] | Floats, after: Sequence[float] | Floats
) -> tuple[float, float, float] | tuple[float, None, None]:
    """The mean of before - after over scores from 0 to 1, with its 95 % interval.

    Where every item changed alike (above all, where none did), resampling finds no spread and would call a handful
    of items certain. Then a share of 1 - 0.025^(1/n) of all items may have changed otherwise and not been among the n
    (Clopper and Pearson 1934), as far as scores can.
    """
    differences = np.asarray(before, dtype=np.float64) - np.asarray(after, dtype=np.float64)
    if (differences != differences[0]).any() or abs(differences[0]) > 1:
        return mean_interval(differences)
    same = float(differences[0])
    unseen = 1 - ((1 - CONFIDENCE) / 2) ** (1 / len(differences))
    return same, same - unseen * (1 + same), same + unseen * (1 - same)


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """The median of the ratios of values measured in pairs, with its 95 % interval.

    Ratios are resampled, not the two sides: a disturbance that slows both members of a pair cancels.
    """
    return median_interval([a / b for a, b in zip(numerators, denominators, strict=True)])


def half_width(interval: Interval) -> float:
    """How far a ratio that should be 1 may be off, by the interval of something measured against itself."""
    return max(abs(interval.low - 1.0), abs(interval.high - 1.0))


def widen(interval: Interval, same: Interval) -> Interval:
    """Widen a ratio's interval by what the same procedure said of a model against itself.

    Where the interval of the original against itself leaves out 1, the machine drifted in step with the rounds, and
    the resampling cannot see it. By how much it misses 1 is then added on both sides, on a logarithmic scale.
    """
    missed = max(log(max(same.low, 1.0)), -log(min(same.high, 1.0)), 0.0)
    return Interval(median=interval.median, low=interval.low * exp(-missed), high=interval.high * exp(missed))


def _interval(data: Floats, *, mean: bool, weights: Floats | None = None) -> tuple[float, float]:
    count = len(data)
    if count == 1:
        return float(data[0]), float(data[0])
    generator = np.random.default_rng(SEED)
    found = []
    for start in range(0, RESAMPLES, max(1, _CELLS // count)):
        rows = min(RESAMPLES - start, max(1, _CELLS // count))
        chosen = generator.integers(0, count, size=(rows, count))
        drawn = data[chosen]
        if weights is not None:
            found.append((drawn * weights[chosen]).sum(axis=1) / weights[chosen].sum(axis=1))
        else:
            found.append(drawn.mean(axis=1) if mean else np.median(drawn, axis=1))
    tail = _expanded_tail(count)
    low, high = np.quantile(np.concatenate(found), [tail, 1 - tail])
    return float(low), float(high)


def _expanded_tail(count: int) -> float:
    """The lower percentile to read, for `count` values: (1 - confidence) / 2, less for small samples."""
    quantile = float(student.ppf((1 - CONFIDENCE) / 2, count - 1))
    return NormalDist().cdf(quantile * sqrt(count / (count - 1)))
