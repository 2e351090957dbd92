"""What may go from each block, and choices of it: at most one part of each block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from secateur.contract.joint import WHOLE, Part, saved_by
from workers.engine.model.reduced_blocks import HALVES_OF_A_BLOCK
from workers.engine.scoring.subsets import HALVES, Removal

Choice = frozenset[Part]  # at most one of each block


def by_block(parts: Iterable[Part]) -> dict[int, list[Part]]:
    found: dict[int, list[Part]] = {}
    for part in parts:
        found.setdefault(part.block, []).append(part)
    return found


def chosen_of(groups: Sequence[Sequence[Part | None]], path: Sequence[int]) -> Choice:
    picked = (group[place] for group, place in zip(groups, path, strict=True))
    return frozenset(part for part in picked if part is not None)


def replaced(choice: Choice, block: int, part: Part | None) -> Choice:
    others = frozenset(other for other in choice if other.block != block)
    return others if part is None else others | {part}


def part_of(choice: Choice, block: int) -> Part | None:
    return next((part for part in choice if part.block == block), None)


def saved_of(choice: Choice, block: int) -> int:
    part = part_of(choice, block)
    return part.saved if part else 0


def runs_of(blocks: Iterable[Part], losses: Mapping[Part, float], needed: int) -> list[Choice]:
    """Whole blocks that stand in a row and save just enough, by the sum of their single losses.

    A model often spares neighbours better than their losses tell, and their cut heals best.
    """
    whole = {part.block: part for part in blocks}
    found: list[list[Part]] = []
    for first in sorted(whole):
        run = [whole[first]]
        while saved_by(run) < needed and run[-1].block + 1 in whole:
            run.append(whole[run[-1].block + 1])
        found += [run] if saved_by(run) >= needed else []
    found.sort(key=lambda run: (sum(losses[part] for part in run), run[0].block))
    return [frozenset(run) for run in found]


def units_of(choice: Choice) -> Removal:
    """The halves of blocks that go, by their numbers."""
    return frozenset(unit for part in choice for unit in _numbers(part))


def _numbers(part: Part) -> Removal:
    first = HALVES.per_block * part.block
    return frozenset(first + place for place, half in enumerate(HALVES_OF_A_BLOCK) if part.goes in (half, WHOLE))


def in_order(choice: Choice) -> tuple[Part, ...]:
    return tuple(sorted(choice, key=lambda part: part.block))
