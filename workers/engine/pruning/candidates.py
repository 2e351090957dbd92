"""Sets of blocks that a criterion might as well have named: what is compared before one of them goes.

A criterion's own set is its best guess about a model that nothing is done to. What it holds for nearly as good may be
better once cuts are healed, and a run of blocks makes one cut where scattered blocks make several. So the sets are: its
own; runs, the best by the criterion first; and sets that differ from its own by one swap, the least dear first.

How dear a block is, is its place in the criterion's order: values of different criteria are of different kinds, and a
few of them are so large that no sum of them tells anything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import Literal

from workers.engine.pruning.choose_blocks import choose_blocks
from workers.engine.scoring.result import BlockScores

Origin = Literal["criterion", "run", "swap"]


@dataclass(frozen=True)
class Candidate:
    """A set of blocks that could go."""

    blocks: tuple[int, ...]  # ascending
    origin: Origin  # the criterion's own, a run, or its own but for one block


def candidates(
    scores: BlockScores, *, count: int, protected: Collection[int], most: int, of_runs: bool = False
) -> list[Candidate]:
    """At most so many sets of `count` blocks, the criterion's own first, then runs and swaps in turn.

    Args:
        of_runs: whether a block's value is that of the run which begins there.

    Raises:
        InvalidInput: over `blocks`, when fewer than `count` blocks may go.
    """
    own = choose_blocks(scores, count=count, protected=protected)
    free = [block for block in range(len(scores.values)) if block not in protected]
    runs = [run for start in free if set(run := range(start, start + count)) <= set(free)]
    dear = _by_runs(scores, runs) if of_runs else scores.values
    ranked = [*own, *(block for block in scores.order if block in free and block not in own)]
    ranked += sorted(set(free) - set(ranked), key=lambda block: (_cost(dear[block]), block))
    place = {block: number for number, block in enumerate(ranked)}

    def run_cost(run: range) -> float:
        return _cost(scores.values[run.start]) if of_runs else sum(place[block] for block in run)

    swaps = ((inside, outside) for inside in own for outside in ranked if outside not in own)
    by_swap = sorted(swaps, key=lambda swap: (place[swap[1]] - place[swap[0]], -place[swap[0]]))
    by_run = sorted(runs, key=lambda run: (run_cost(run), run.start))
    in_turn = zip_longest(
        (tuple(run) for run in by_run),
        (tuple(sorted({*own, outside} - {inside})) for inside, outside in by_swap),
    )
    named = (blocks for blocks in chain.from_iterable(in_turn) if blocks is not None)
    first, *others = islice(dict.fromkeys(chain([tuple(sorted(own))], named)), most)
    in_a_row = set(map(tuple, runs))
    return [
        Candidate(first, "criterion"),
        *(Candidate(blocks, "run" if blocks in in_a_row else "swap") for blocks in others),
    ]


def _by_runs(scores: BlockScores, runs: Sequence[range]) -> list[float | None]:
    """Of each block the least value of the runs that hold it."""
    return [
        min((_cost(scores.values[run.start]) for run in runs if block in run), default=None)
        for block in range(len(scores.values))
    ]


def _cost(value: float | None) -> float:
    return float("inf") if value is None else value
