"""Search for what goes from each block under one budget: its attention, its MLP, all of it, or nothing.

What each choice alone takes away from the intact model's predictions is measured (KL divergence, nats per token), and
the choice over all blocks whose losses sum to least is found exactly (`knapsack.py`), as in Puzzle (Bercovich et al.
2024, arXiv 2411.19146). But losses add up badly: two neighbours that can each be spared may be the same thing done
twice. So a second start is built one step at a time, each judged beside what has gone before, and the better of the
two is improved by moves, each judged as a whole. A move is proposed by the losses of every choice measured beside the
set at hand, from which the knapsack is solved again within a few changes.

Whole blocks alone are searched in the same way first, from the best run of neighbours too. So what is found is never
worse than that on the text of the search, and how much the halves are worth is known.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from torch import Tensor

from secateur.contract.joint import WHOLE, Part, largest, saved_by
from workers.engine.healing.judge import hold_out
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress, no_progress
from workers.engine.scoring.divergences import Divergences
from workers.engine.scoring.joint_moves import Beside
from workers.engine.scoring.joint_parts import (
    Choice,
    by_block,
    chosen_of,
    in_order,
    part_of,
    replaced,
    runs_of,
    saved_of,
    units_of,
)
from workers.engine.scoring.knapsack import Option, least_loss
from workers.engine.scoring.result import check_numbers
from workers.engine.scoring.subsets import HALVES

DEPTH_SHARE = 1 / 3  # of the judgements: for whole blocks alone
RUNS_SHARE = 1 / 3  # and of these, at most: for runs of neighbours
BESIDE_SHARE = 2 / 3  # of the judgements that are left: for what parts are worth beside a choice; the rest for moves
STEPS_AT_ONCE = 4  # of a set that is built: the most promising steps are judged together
MOVES_AT_ONCE = 12


@dataclass(frozen=True)
class Judged:
    """A choice, and how far from the original the model is with it."""

    parts: tuple[Part, ...]  # by block
    saved: int
    kl: float  # on the text of the search, nats per token
    kl_held: float  # on samples that the search has not seen


@dataclass(frozen=True)
class JointFound:
    """What the search found."""

    best: Judged
    blocks_alone: Judged | None  # of whole blocks alone; None where these were not to be tried, or cannot save enough
    losses: Mapping[Part, float]  # of each part alone
    summed: float  # what the sum of single losses foresaw of the best choice by sums,
    summed_kl: float  # and what it came to
    judged: int  # sets beside the single parts
    tokens: tuple[int, int]  # searched on, held out
    passes: int


def search_parts(
    model: BlockModel,
    ids: Tensor,
    parts: Sequence[Part],
    *,
    needed: int,
    evaluations: int,
    progress: Progress = no_progress,
) -> JointFound:
    """Search for the parts that save `needed` together; nothing is random.

    Args:
        ids: (samples, tokens) calibration tokens; the last fifth is held out.
        parts: what may go; those of a block exclude each other. The largest choice of them saves enough.
        evaluations: how many sets are judged as a whole at most, beside each part alone.

    Raises:
        InvalidInput: the tokens do not fit the model.
        StageFailed: a loss is not finite.
    """
    searched, held = hold_out(model.check_ids(ids))
    done = 0

    def tell(sets: int) -> None:
        nonlocal done
        done += sets
        progress(min(done, len(parts) + evaluations), len(parts) + evaluations, "sets")

    with model.packed_whole():
        kl = Divergences(model, searched, units=HALVES, on_judged=tell)
        losses = dict(zip(parts, kl.of([units_of(frozenset({part})) for part in parts]), strict=True))
        check_numbers(list(losses.values()))
        parts = _with_one_left(parts, losses, needed, model.n_blocks)
        search = _Search(kl, needed, losses)
        alone = [part for part in parts if part.goes == WHOLE]
        blocks: Choice | None = None
        if alone and len(alone) < len(parts):
            limit = int(DEPTH_SHARE * evaluations)
            blocks = search.best(alone, limit, runs_of(alone, losses, needed)[: int(RUNS_SHARE * limit)])
        summed = search.by_sums(parts)
        best = search.best(parts, evaluations, () if blocks is None else (blocks,))
        assert summed is not None, "the largest choice saves enough"
        assert best is not None, "and so does what was found"
        elsewhere = Divergences(model, held, units=HALVES)
        found = [
            None
            if choice is None
            else Judged(in_order(choice), saved_by(choice), search.kl(choice), elsewhere.of([units_of(choice)])[0])
            for choice in (best, blocks)
        ]
    assert found[0] is not None
    return JointFound(
        best=found[0],
        blocks_alone=found[1],
        losses=losses,
        summed=sum(losses[part] for part in summed),
        summed_kl=search.kl(summed),
        judged=search.spent,
        tokens=(searched.numel(), held.numel()),
        passes=kl.passes,
    )


@dataclass
class _Search:
    """Judges sets, and looks for better ones."""

    divergences: Divergences
    needed: int
    losses: Mapping[Part, float]  # of each part alone

    def __post_init__(self) -> None:
        self._single = len(self.divergences.known)

    @property
    def spent(self) -> int:
        """Sets that were judged, beside the single parts."""
        return len(self.divergences.known) - self._single

    def kl(self, choice: Choice) -> float:
        return self.divergences.of([units_of(choice)])[0]

    def known(self, choice: Choice) -> bool:
        return units_of(choice) in self.divergences.known

    def best(self, parts: Sequence[Part], limit: int, starts: Iterable[Choice]) -> Choice | None:
        """The best choice of `parts` that is found until `limit` sets have been judged; None if none saves enough."""
        sums = self.by_sums(parts)
        if sums is None:
            return None
        found = [sums, *starts]
        self.divergences.of([units_of(choice) for choice in found])
        built = self.one_by_one(parts, (self.spent + limit) // 2)
        found += [] if built is None else [built]
        self.divergences.of([units_of(choice) for choice in found])
        return self.improved(min(found, key=self._order), parts, limit)

    def by_sums(self, parts: Sequence[Part]) -> Choice | None:
        """The choice whose single losses sum to least; None where even all parts do not save enough."""
        groups = [[None, *of_block] for of_block in by_block(parts).values()]
        options = [
            [Option(0, 0.0) if part is None else Option(part.saved, self.losses[part]) for part in group]
            for group in groups
        ]
        paths = least_loss(options, self.needed)
        return None if not paths else chosen_of(groups, paths[0])

    def one_by_one(self, parts: Sequence[Part], limit: int) -> Choice | None:
        """Step after step, the one that loses least for what it saves, judged beside what has gone before.

        A step's loss of an earlier round mostly only grows, so it is measured anew when its turn has come. What is
        missing when `limit` sets have been judged is filled up by the losses known then.
        """
        choice: Choice = frozenset()
        kl = 0.0
        waiting = [(self.losses[part] / part.saved, number, part) for number, part in enumerate(parts) if part.saved]
        heapq.heapify(waiting)
        fresh: set[Part] = set()  # judged beside the choice as it is
        while saved_by(choice) < self.needed and waiting:
            ratio, number, part = heapq.heappop(waiting)
            old = part_of(choice, part.block)
            if old is not None and part.saved <= old.saved:
                continue
            if part in fresh or self.spent >= limit:
                choice = replaced(choice, part.block, part)
                if part in fresh:
                    kl, fresh = self.kl(choice), set()
                continue
            some = [(ratio, number, part)]
            while waiting and len(some) < min(STEPS_AT_ONCE, limit - self.spent):
                some.append(heapq.heappop(waiting))
            some = [step for step in some if step[2].saved > saved_of(choice, step[2].block)]
            found = self.divergences.of([units_of(replaced(choice, step.block, step)) for _, _, step in some])
            for (_, number, step), value in zip(some, found, strict=True):
                gain = min(step.saved - saved_of(choice, step.block), self.needed - saved_by(choice))
                heapq.heappush(waiting, ((value - kl) / gain, number, step))
                fresh.add(step)
        return choice if saved_by(choice) >= self.needed else None

    def improved(self, choice: Choice, parts: Sequence[Part], limit: int) -> Choice:
        """Moves from a choice, as long as they bring it nearer to the original and `limit` is not reached."""
        near: Beside | None = None  # by which moves are proposed
        while True:
            if near is None:
                blocks = self._worth_a_look(by_block(parts), choice, int(BESIDE_SHARE * (limit - self.spent)))
                if not blocks:
                    return choice
                near = Beside.measured(self.divergences, blocks, choice)
            moves = [move for move in near.moves(choice, self.needed) if not self.known(move)]
            moves = moves[: min(MOVES_AT_ONCE, limit - self.spent)]
            self.divergences.of([units_of(move) for move in moves])
            found = min(moves, key=self._order, default=choice)
            if self.kl(found) < self.kl(choice):
                choice = found
            elif near.at == choice:
                return choice
            else:
                near = None

    def _worth_a_look(
        self, blocks: Mapping[int, Sequence[Part]], choice: Choice, judgements: int
    ) -> dict[int, Sequence[Part]]:
        """The blocks whose parts can be measured with so many judgements, the most promising first.

        Those that the choice takes from and the others take turns: a move gives one back for another.
        """
        taken = {part.block for part in choice}
        single = {block: min(self.losses[part] / part.saved for part in parts) for block, parts in blocks.items()}
        inside = sorted((block for block in blocks if block in taken), key=lambda block: -single[block])
        outside = sorted((block for block in blocks if block not in taken), key=lambda block: single[block])
        turns = [block for pair in zip_longest(outside, inside) for block in pair if block is not None]
        found: dict[int, Sequence[Part]] = {}
        for block in turns:
            judgements -= len(blocks[block])
            if judgements < 0:
                break
            found[block] = blocks[block]
        return found

    def _order(self, choice: Choice) -> tuple[float, list[int]]:
        return self.kl(choice), sorted(units_of(choice))


def _with_one_left(parts: Sequence[Part], losses: Mapping[Part, float], needed: int, n_blocks: int) -> Sequence[Part]:
    """The parts, so that no choice of them takes everything: the block that is missed most does not go whole."""
    whole = [part for part in parts if part.goes == WHOLE]
    if len(whole) < n_blocks:
        return parts
    without = {part: [other for other in parts if other != part] for part in whole}
    enough = [part for part in whole if saved_by(largest(without[part], n_blocks)) >= needed]
    return without[max(enough, key=lambda part: (losses[part], -part.block))]
