"""Moves from a choice of parts to one near it, proposed by what each part is worth beside what has gone already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from secateur.contract.joint import Part, saved_by
from workers.engine.scoring.divergences import Divergences
from workers.engine.scoring.joint_parts import Choice, chosen_of, part_of, replaced, units_of
from workers.engine.scoring.knapsack import Option, least_loss

FARTHEST = 6  # blocks that a move changes at most
FEW_CHANGES = 48  # moves of one block or two that are proposed


@dataclass(frozen=True)
class Beside:
    """What each part of a block is worth beside a choice: the divergence with it, the other blocks as they are."""

    at: Choice  # that they were measured beside
    values: Mapping[int, Mapping[Part | None, float]]  # block → what goes from it → the divergence

    @classmethod
    def measured(cls, divergences: Divergences, blocks: Mapping[int, Sequence[Part]], choice: Choice) -> Beside:
        """Beside this choice."""
        changes = [(block, part) for block, parts in blocks.items() for part in (None, *parts)]
        found = divergences.of([units_of(replaced(choice, block, part)) for block, part in changes])
        values: dict[int, dict[Part | None, float]] = {block: {} for block in blocks}
        for (block, part), value in zip(changes, found, strict=True):
            values[block][part] = value
        return cls(choice, values)

    def moves(self, choice: Choice, needed: int) -> list[Choice]:
        """Choices near this one that save `needed`: the best by the knapsack first, then the most promising.

        Blocks that were not measured stay as they are.
        """
        others = frozenset(part for part in choice if part.block not in self.values)
        now = {block: part_of(choice, block) for block in self.values}
        groups = [list(values) for values in self.values.values()]
        options = [
            [Option(_saved(part), self._change(block, now[block], part), int(part != now[block])) for part in group]
            for block, group in zip(self.values, groups, strict=True)
        ]
        paths = least_loss(options, needed - saved_by(others), changes=FARTHEST)
        by_knapsack = [others | chosen_of(groups, path) for changes, path in paths.items() if changes]
        return list(dict.fromkeys([*by_knapsack, *self._few_changes(choice, now, needed)]))

    def _change(self, block: int, old: Part | None, new: Part | None) -> float:
        values = self.values[block]
        return values[new] - values[old]

    def _few_changes(self, choice: Choice, now: Mapping[int, Part | None], needed: int) -> list[Choice]:
        """All changes of one block or of two that save enough and promise something, the best first."""
        spare = saved_by(choice) - needed
        single = [
            _Change(block, part, self._change(block, now[block], part), _saved(part) - _saved(now[block]))
            for block, values in self.values.items()
            for part in values
            if part != now[block]
        ]
        pairs = [(one, other) for one, other in combinations(single, 2) if one.block != other.block]
        moves = [move for move in [*((one,) for one in single), *pairs] if spare + sum(c.saved for c in move) >= 0]
        moves.sort(key=lambda move: sum(change.loss for change in move))
        found = []
        for move in moves[:FEW_CHANGES]:
            changed = choice
            for change in move:
                changed = replaced(changed, change.block, change.part)
            found.append(changed)
        return found


@dataclass(frozen=True)
class _Change:
    """Another part of one block, or none."""

    block: int
    part: Part | None
    loss: float  # what it adds to the divergence
    saved: int  # and to what is saved


def _saved(part: Part | None) -> int:
    return part.saved if part else 0
