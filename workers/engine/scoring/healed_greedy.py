"""Search for blocks whose removal can be healed best: sets are judged with their cuts healed, not as bare removals.

A criterion that looks at the bare model asks what a block does; what counts in the end is what its neighbours cannot
do for it. So each candidate set is healed quickly, by the down-projection before its cut alone, and judged by
KL(original ‖ healed) on the last fifth of the samples, which nothing is fitted on.

Sets are of two kinds. Runs: every stretch of so many blocks in a row, one cut each. Scattered: as in SLEB (Song et al.
2024, arXiv 2402.09025), one block at a time, each round over all that are left, given what went before. The
original's states at every depth are kept, so a candidate costs one fit, and the kept blocks after its cut on the
held-out samples. Cuts that a candidate does not touch keep what was fitted for them in the rounds before; once it is
taken, all are fitted anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from secateur.contract.options.scoring import HealedGreedyScoring
from workers.engine.healing.cuts import cut_ends
from workers.engine.healing.fit import Aim, fit_projection, through
from workers.engine.healing.judge import hold_out
from workers.engine.healing.projections import BlockChange, projections_of
from workers.engine.model.batches import batches
from workers.engine.model.block_model import Block, BlockModel
from workers.engine.model.divergence import mean_kl
from workers.engine.progress import Progress
from workers.engine.runtime import available_memory
from workers.engine.scoring.result import BlockScores, check_numbers
from workers.engine.scoring.task import ScoringTask

MEMORY_SHARE = 0.25  # of what is free: what the states of all depths may take

States = list[Tensor]  # in pieces of (samples, tokens, hidden)


def score(task: ScoringTask[HealedGreedyScoring]) -> BlockScores:
    """Search for the task's count of blocks to remove. The first always stays: no block stands before its cut.

    Returns:
        Values are divergences in nats per token. Where blocks found one at a time are best, of a removed block that
        of the healed model after its removal, of the others that of the last round's model without them; where a run
        is, of each block the least of the runs that hold it. None for blocks that were in no candidate. The order has
        the removed blocks first, then the others by value. `details` has what was judged, and how much text it took.
    """
    count, protected = replace(task, protected=task.protected | {0}).bounds()
    search = _Search(task.model, task.tokens())
    candidates = [block for block in range(task.model.n_blocks) if block not in protected]
    starts = [start for start in candidates if set(range(start, start + count)) <= set(candidates)]
    runs = [tuple(range(start, start + count)) for start in starts] if task.options.sets != "scattered" else []
    scattered = task.options.sets != "runs" or not runs
    rounds = sum(len(candidates) - number for number in range(count)) if scattered else 0
    tell = _Count(task.progress, len(runs) + rounds)

    judged = {run: tell.after(search.judge(search.nothing, run)) for run in runs}
    values: dict[int, float] = {}
    order: list[int] = []
    if scattered:
        values, order = _one_at_a_time(search, candidates, count, tell)
    best = min(judged, key=lambda run: (judged[run], run), default=None)
    if best is not None and (not order or judged[best] < values[order[-1]]):
        order = list(best)
        values = {
            block: min(found for run, found in judged.items() if block in run)
            for block in sorted({block for run in judged for block in run})
        }
    found = [values.get(block) for block in range(task.model.n_blocks)]
    check_numbers(found)
    others = sorted(values.keys() - set(order), key=lambda block: (values[block], block))
    details = {
        "runs": [{"first": run[0], "kl": value} for run, value in judged.items()],
        "chosen": "run" if best is not None and order == list(best) else "scattered",
        "fitted_tokens": search.tokens[0],
        "judged_tokens": search.tokens[1],
    }
    return BlockScores(found, None, [*order, *others], details)


def _one_at_a_time(
    search: _Search, candidates: Sequence[int], count: int, tell: _Count
) -> tuple[dict[int, float], list[int]]:
    """The divergences by block, and the blocks in the order of their removal."""
    values: dict[int, float] = {}
    removed: list[int] = []
    base = search.nothing
    for _ in range(count):
        left = [block for block in candidates if block not in removed]
        found = {block: tell.after(search.judge(base, (block,))) for block in left}
        check_numbers(list(found.values()))
        best = min(found, key=lambda block: (found[block], block))
        values.update(found)
        removed.append(best)
        if len(removed) < count:
            base = search.take(base, best)
    return values, removed


class _Count:
    """Candidates that have been judged."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def after(self, value: float) -> float:
        """Count one, and hand its value on."""
        self._done += 1
        self._progress(self._done, self._total, "candidates")
        return value


@dataclass(frozen=True)
class _Healed:
    """A healed model: which blocks are gone, what is added to others, and its states before each kept block."""

    removed: frozenset[int]
    changes: dict[int, BlockChange]
    fitted: dict[int, States]  # from the first cut on; before it they are the original's
    held: dict[int, States]


class _Search:
    """The original's states at every depth, and what can be judged by them."""

    @torch.no_grad()
    def __init__(self, model: BlockModel, ids: Tensor) -> None:
        self._model = model
        state = 2 * (model.n_blocks + 1) * ids.shape[1] * model.hidden_size * model.dtype.itemsize  # bytes per sample
        most = max(2, int(MEMORY_SHARE * available_memory(model.device) / state))
        fitted, held = hold_out(ids[:most])
        self.tokens = (fitted.numel(), held.numel())
        self._fitted = [[model.embed(piece) for _, piece in batches(fitted)]]  # by depth
        self._held = [[model.embed(piece) for _, piece in batches(held)]]
        for block in model.blocks():
            self._fitted.append([block(state) for state in self._fitted[-1]])
            self._held.append([block(state) for state in self._held[-1]])
        self.nothing = _Healed(frozenset(), {}, {}, {})

    @torch.no_grad()
    def judge(self, base: _Healed, added: Collection[int]) -> float:
        """KL(original ‖ healed) in nats per token, without the blocks in `added` too, which stand in a row."""
        ends = self._ends(base.removed | set(added))
        (before,) = [block for block, end in ends.items() if any(block < gone <= end for gone in added)]
        following = [block for block in range(ends[before] + 1, self._model.n_blocks) if block not in base.removed]
        states = self._states(base.held, self._held, before)
        for block in self._model.blocks([before, *following]):
            if block.index == before:
                change = self._heal(block, ends[before], self._states(base.fitted, self._fitted, before), states)
            else:
                change = base.changes.get(block.index, {})
            states = through(block, states, change)
        return mean_kl(self._model, self._held[-1], states)

    @torch.no_grad()
    def take(self, base: _Healed, block: int) -> _Healed:
        """The healed model without this block too, with every cut fitted anew."""
        removed = base.removed | {block}
        ends = self._ends(removed)
        kept = [number for number in range(self._model.n_blocks) if number not in removed]
        start = min(ends)
        fitted, held = self._states({}, self._fitted, start), self._states({}, self._held, start)
        found = _Healed(removed, {}, {}, {})
        for number in self._model.blocks([number for number in kept if number >= start]):
            found.fitted[number.index], found.held[number.index] = fitted, held
            change: BlockChange = {}
            if number.index in ends:
                change = found.changes[number.index] = self._heal(number, ends[number.index], fitted, held)
            fitted, held = through(number, fitted, change), through(number, held, change)
        return found

    def _ends(self, removed: Iterable[int]) -> dict[int, int]:
        gone = set(removed)
        return cut_ends([block for block in range(self._model.n_blocks) if block not in gone], self._model.n_blocks)

    def _states(self, own: dict[int, States], originals: Sequence[States], block: int) -> States:
        return own.get(block, originals[block])

    def _heal(self, block: Block, end: int, fitted: States, held: States) -> BlockChange:
        """What the block before a cut is to add to its down-projection; nothing where no closed form holds."""
        down = projections_of(block, held[0][:1]).down
        if down is None:
            return {}
        fit = fit_projection(
            block,
            down,
            down=down,
            fitted=Aim(fitted, self._fitted[end + 1]),
            held=Aim(held, self._held[end + 1]),
        )
        return down.as_parameters(fit.change)
