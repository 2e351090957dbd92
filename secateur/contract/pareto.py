"""Which points of two figures are worth having: those that no other is better than in both.

A point is dominated by another that is at least as good in both figures and better in one. That holds for the measured
values; whether it was shown is a matter of their intervals: where those overlap in both figures, the two points may as
well be equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secateur.contract.intervals import Estimate


@dataclass(frozen=True)
class Pair:
    """A point with its two figures."""

    place: int
    x: Estimate
    y: Estimate


@dataclass(frozen=True)
class Dominated:
    """By which point, and whether the intervals show it."""

    by: int
    shown: bool


def dominated(pairs: Sequence[Pair], *, higher: tuple[bool, bool]) -> dict[int, Dominated]:
    """Those that are dominated, by place; all others are the front.

    Of several that dominate a point, one that is shown to do so is named, and else the first.

    Args:
        higher: for x and y, whether a greater value is better.
    """
    found: dict[int, Dominated] = {}
    for pair in pairs:
        over = [Dominated(other.place, _shown(other, pair)) for other in pairs if _dominates(other, pair, higher)]
        if over:
            found[pair.place] = next((one for one in over if one.shown), over[0])
    return found


def _dominates(one: Pair, other: Pair, higher: tuple[bool, bool]) -> bool:
    gains = [
        (a.value - b.value) * (1 if up else -1)
        for a, b, up in ((one.x, other.x, higher[0]), (one.y, other.y, higher[1]))
    ]
    return min(gains) >= 0 and max(gains) > 0


def _shown(one: Pair, other: Pair) -> bool:
    return apart(one.x, other.x) or apart(one.y, other.y)


def apart(one: Estimate, other: Estimate) -> bool:
    """Whether two values differ by more than their intervals; without an interval nothing is shown."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low > other.high or other.low > one.high
