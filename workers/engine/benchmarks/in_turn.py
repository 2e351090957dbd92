"""Models timed in turn, and what their times say of one another.

Every round times the original, each variant, and the original again; every other round goes backwards. A speedup is
the median over rounds of (mean of the original's two times / the variant's time), so what slows the machine for a while
slows both sides of a ratio, and a steady drift cancels between the original's two. The original's two times against
each other are the A/A check: they say what the machine's noise alone can look like, and widen the intervals where they
do not hold 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from secateur.contract.measurements import Interval
from workers.engine.benchmarks.statistics import half_width, ratio_interval, widen
from workers.engine.progress import Progress

T = TypeVar("T")

AGAIN = "original, again"


@dataclass(frozen=True)
class Speedups:
    """How much faster than the original the others are."""

    by_name: Mapping[str, Interval | None]  # None: the original
    noise: float  # half width of the interval of the original against itself


def time_in_turn(
    names: Sequence[str],
    time_one: Callable[[str, int], T],
    *,
    warmup: int,
    runs: int,
    progress: Progress,
    enough: Callable[[Mapping[str, list[T]]], bool] = lambda found: False,
) -> dict[str, list[T]]:
    """Time everyone, round by round.

    Args:
        names: the original first.
        time_one: times what is called so, in the round of this number; both of the original's are under its own name.
        progress: counts rounds, warm-up included.
        enough: asked after each timed round, with what was found so far: whether that will do.

    Returns:
        `runs` results for each name or fewer, in pairs: the i-th of every name are of one round. The original's second
        ones stand under AGAIN.
    """
    entrants = [*names, AGAIN]
    found: dict[str, list[T]] = {name: [] for name in entrants}
    for turn in range(warmup + runs):
        warm = turn < warmup
        order = [name for name in entrants if not (warm and name == AGAIN)]
        for name in order if turn % 2 == 0 else reversed(order):
            result = time_one(names[0] if name == AGAIN else name, turn)
            if not warm:
                found[name].append(result)
        progress(turn + 1, warmup + runs, "rounds")
        if not warm and enough(found):
            break
    return found


def speedups(seconds: Mapping[str, Sequence[float]]) -> Speedups:
    """The speedups by the times of `time_in_turn`, those of AGAIN among them."""
    names = [name for name in seconds if name != AGAIN]
    first, again = seconds[names[0]], seconds[AGAIN]
    same = ratio_interval(first, again)
    bracket = [(a + b) / 2 for a, b in zip(first, again, strict=True)]
    others = {name: widen(ratio_interval(bracket, seconds[name]), same) for name in names[1:]}
    return Speedups({names[0]: None, **others}, half_width(same))
