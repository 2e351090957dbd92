"""The choice of one option from each group that saves enough and loses least: exactly, by dynamic programming.

That is the integer program of Puzzle (Bercovich et al. 2024, arXiv 2411.19146) with one budget: a group is a block, its
options what may go from it. What is saved counts in whole numbers, so sums are exact. After each group those states
are kept that no other beats in both, saved and loss; where blocks are alike there are few of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """One option of a group."""

    saved: int
    loss: float
    changes: int = 0  # how many steps it is away from where one stands


@dataclass(frozen=True)
class _State:
    """The best way to have saved so much, as a chain back to the first group."""

    loss: float
    option: int = -1
    before: _State | None = None

    def path(self) -> tuple[int, ...]:
        found = []
        state: _State | None = self
        while state is not None and state.option >= 0:
            found.append(state.option)
            state = state.before
        return tuple(reversed(found))


def least_loss(groups: Sequence[Sequence[Option]], needed: int, *, changes: int = 0) -> dict[int, tuple[int, ...]]:
    """For each number of changes up to `changes`, the choice with exactly so many that loses least.

    Args:
        needed: what has to be saved together at least; saving more is no gain.

    Returns:
        Changes → the place of the chosen option within each group; without the numbers by which nothing saves enough.
        Of equal choices the one whose options come first.
    """
    fronts: Mapping[int, Mapping[int, _State]] = {0: {0: _State(0.0)}}  # changes → saved → the best way there
    for group in groups:
        found: dict[int, dict[int, _State]] = {}
        for changed, front in fronts.items():
            for place, option in enumerate(group):
                count = changed + option.changes
                if count > changes:
                    continue
                here = found.setdefault(count, {})
                for saved, state in front.items():
                    total, loss = min(needed, saved + option.saved), state.loss + option.loss
                    if total not in here or loss < here[total].loss:
                        here[total] = _State(loss, place, state)
        fronts = {count: _unbeaten(here) for count, here in sorted(found.items())}
    return {count: front[needed].path() for count, front in fronts.items() if needed in front}


def _unbeaten(front: Mapping[int, _State]) -> dict[int, _State]:
    """Without states that another beats: one that saves as much or more and loses no more."""
    found: dict[int, _State] = {}
    least = float("inf")
    for saved in sorted(front, reverse=True):
        if front[saved].loss < least:
            least = front[saved].loss
            found[saved] = front[saved]
    return found
