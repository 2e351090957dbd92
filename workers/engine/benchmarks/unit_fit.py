"""What an attention and an MLP take of a model's time or memory: time = a + b · attentions + c · MLPs.

As for depths (`depth_fit.py`), times of a smaller model are divided by the original's of the same round, so the plane
goes through 1 at the original and has two parameters, the shares of one attention and of one MLP. Each round gives a
pair of them by least squares, and the rounds' spread gives the intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from secateur.contract.measurements import Interval
from workers.engine.benchmarks.depth_fit import LEAST_RATIO, Figure, figure_interval, widest
from workers.engine.benchmarks.statistics import median_interval

Shares = tuple[float, float]  # of one attention and of one MLP
_AXIS = 16  # numbers of attentions, and of MLPs, at which a limit is looked for


@dataclass(frozen=True)
class TimedSet:
    """A model without so many halves, and the original in the same rounds."""

    attentions: int
    mlps: int
    original: Sequence[float]  # seconds, one a round; a mean of the original's two times
    reduced: Sequence[float]
    same: Interval  # the original's times over its own again: what noise alone looks like

    @property
    def ratios(self) -> list[float]:
        return [after / before for before, after in zip(self.original, self.reduced, strict=True)]


def trial_sets(attentions: int, mlps: int) -> list[tuple[int, int]]:
    """How many of so many attentions and MLPs to remove for the fit: two thirds of each, half of both, and all.

    >>> trial_sets(30, 30), trial_sets(6, 0)
    ([(20, 0), (0, 20), (15, 15), (30, 30)], [(3, 0), (4, 0), (6, 0)])
    """
    wanted = [(2 / 3, 0.0), (0.0, 2 / 3), (0.5, 0.5), (1.0, 1.0)]
    found = [(_part(attentions, one), _part(mlps, other)) for one, other in wanted]
    sets = list(dict.fromkeys(pair for pair in found if pair != (0, 0)))
    return sets if attentions and mlps else sorted(sets)


def _part(count: int, share: float) -> int:
    return max(1, round(count * share)) if count and share else 0


def shares_by_round(timed: Sequence[TimedSet]) -> list[Shares]:
    """Least-squares shares of each round."""
    places = [(one.attentions, one.mlps) for one in timed]
    rounds = zip(*(one.ratios for one in timed), strict=True)
    return [plane(places, [1 - ratio for ratio in ratios]) for ratios in rounds]


def plane(places: Sequence[tuple[int, int]], saved: Sequence[float]) -> Shares:
    """The least-squares plane through nothing saved at no halves removed; a kind that was never removed has none."""
    aa = sum(a * a for a, _ in places)
    mm = sum(m * m for _, m in places)
    am = sum(a * m for a, m in places)
    ay = sum(a * y for (a, _), y in zip(places, saved, strict=True))
    my = sum(m * y for (_, m), y in zip(places, saved, strict=True))
    if not aa or not mm:
        return (ay / aa if aa else 0.0), (my / mm if mm else 0.0)
    determinant = aa * mm - am * am
    if not determinant:  # both always went together, so neither is told from the other
        return ay / aa / 2, ay / aa / 2
    return (ay * mm - my * am) / determinant, (my * aa - ay * am) / determinant


def share_intervals(timed: Sequence[TimedSet]) -> tuple[Interval, Interval]:
    """Of one attention and of one MLP."""
    rounds = shares_by_round(timed)
    return median_interval([one for one, _ in rounds]), median_interval([other for _, other in rounds])


def predicted_set(timed: Sequence[TimedSet], attentions: int, mlps: int, figure: Figure) -> Interval:
    """The figure without so many halves, with the interval that the rounds' spread gives it."""
    rounds = shares_by_round(timed)
    ratios = [max(LEAST_RATIO, 1 - one * attentions - other * mlps) for one, other in rounds]
    return figure_interval(timed[0].original, ratios, figure, widest([one.same for one in timed]))


def needed_saving(
    reaches: Callable[[int, int], bool], costs: tuple[int, int], most: tuple[int, int], *, within: int
) -> int | None:
    """The least saving such that whatever saves so much also reaches; None if not even the greatest does.

    Args:
        reaches: whether a model without so many attentions and MLPs does.
        costs: of one attention and of one MLP, in whole units.
        most: how many of each may go.
        within: what can be saved at most.
    """
    places = [(a, m) for a in _axis(most[0]) for m in _axis(most[1]) if _saved(costs, (a, m)) <= within]
    places.sort(key=lambda place: (_saved(costs, place), place), reverse=True)
    reached = None
    for place in places:
        if not reaches(*place):
            break
        reached = _saved(costs, place)
    return reached


def _axis(count: int) -> list[int]:
    return sorted({round(count * step / _AXIS) for step in range(_AXIS + 1)}) if count > _AXIS else [*range(count + 1)]


def _saved(costs: tuple[int, int], place: tuple[int, int]) -> int:
    return costs[0] * place[0] + costs[1] * place[1]
