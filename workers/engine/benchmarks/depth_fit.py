"""How fast a model would be at a depth that was not timed: time = a + b · blocks, from a few depths that were.

Blocks of one size cost the same, whichever they are, and what is not a block (embedding, head, the overhead of a
generation) stays. A shallower model is timed in turn with the original, so each round gives a ratio of the two times in
which what slows the machine cancels: ratio = 1 - share · removed, where `share` is b over the original's whole time.
Each round's share is the least-squares one over the depths; the rounds' spread gives intervals by bootstrap, as
everywhere in the benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from secateur.contract.measurements import Interval
from workers.engine.benchmarks.statistics import median_interval, widen

Figure = Callable[[float, float], float]  # (the original's seconds, the model's share of them) → the figure
LEAST_RATIO = 1e-3  # what a prediction may fall to: noise must not make a time of nothing of it


@dataclass(frozen=True)
class TimedPair:
    """A model without so many blocks, and the original in the same rounds."""

    removed: int
    original: Sequence[float]  # seconds, one a round; a mean of the original's two times where there are two
    shallower: Sequence[float]
    same: Interval  # the original's times over its own again: what noise alone looks like

    @property
    def ratios(self) -> list[float]:
        return [after / before for before, after in zip(self.original, self.shallower, strict=True)]


def evenly(blocks: Sequence[int], count: int) -> list[int]:
    """`count` of the blocks, spread over all of them, so that kinds of blocks are taken as they are mixed."""
    return [blocks[(2 * place + 1) * len(blocks) // (2 * count)] for place in range(count)]


def trial_depths(most: int) -> list[int]:
    """How many blocks to remove for the fit: a third and two thirds of those that may go, and all of them."""
    return sorted({max(1, round(most * part / 3)) for part in (1, 2, 3)})


def shares(pairs: Sequence[TimedPair]) -> list[float]:
    """What one block takes of the original's time, round by round: the least-squares slope through the original."""
    weight = sum(pair.removed**2 for pair in pairs)
    rounds = zip(*(pair.ratios for pair in pairs), strict=True)
    return [
        sum(pair.removed * (1 - ratio) for pair, ratio in zip(pairs, ratios, strict=True)) / weight for ratios in rounds
    ]


def measured(pair: TimedPair, figure: Figure) -> Interval:
    """The figure of a depth that was timed, with its interval."""
    return figure_interval(pair.original, pair.ratios, figure, pair.same)


def predicted(pairs: Sequence[TimedPair], removed: int, figure: Figure) -> Interval:
    """The figure without so many blocks, with the interval that the rounds' spread gives it."""
    ratios = _by_the_line(pairs, removed)
    return figure_interval(pairs[0].original, ratios, figure, widest([pair.same for pair in pairs]))


def estimated(pairs: Sequence[TimedPair], removed: int, figure: Figure) -> float:
    """The same without its interval, which takes most of the time."""
    return median(map(figure, pairs[0].original, _by_the_line(pairs, removed)))


def _by_the_line(pairs: Sequence[TimedPair], removed: int) -> list[float]:
    return [max(LEAST_RATIO, 1 - share * removed) for share in shares(pairs)]


@dataclass(frozen=True)
class MovedLine:
    """The fitted line, moved so that it goes through a depth that was measured by itself."""

    removed: int
    measured: Interval  # the figure at that depth
    original: float  # the original's figure; 1 of a speedup
    per_block: float  # what one block takes of the original's time or memory, as a share
    inverse: bool  # whether the figure is the higher the less is taken, as of speed

    def at(self, removed: int) -> Interval:
        """The figure without so many blocks; as uncertain as what was measured."""
        fewer = self.per_block * (removed - self.removed)

        def moved(figure: float) -> float:
            share = self.original / figure if self.inverse else figure / self.original
            share = max(LEAST_RATIO, share - fewer)
            return self.original / share if self.inverse else self.original * share

        found = self.measured
        return Interval(median=moved(found.median), low=moved(found.low), high=moved(found.high))


def least_depth(reaches: Callable[[int], bool], most: int) -> int | None:
    """The least number of blocks from 1 to `most` that reaches, or None where none does."""
    return next((count for count in range(1, most + 1) if reaches(count)), None)


def figure_interval(original: Sequence[float], ratios: Sequence[float], figure: Figure, same: Interval) -> Interval:
    """A figure by rounds. Widened by what the original differs from itself, as every speedup is."""
    values = [figure(seconds, ratio) for seconds, ratio in zip(original, ratios, strict=True)]
    return widen(median_interval(values), same)


def widest(same: Sequence[Interval]) -> Interval:
    """Of several timings, what the original differed from itself by where that was most."""
    return max(same, key=_missed)


def _missed(same: Interval) -> float:
    return max(same.low - 1, 1 - same.high, 0.0)
