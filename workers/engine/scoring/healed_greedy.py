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

from collections.abc import Sequence
from dataclasses import replace

from secateur.contract.options.scoring import HealedGreedyScoring
from workers.engine.healing.sets import HealedSets
from workers.engine.progress import Progress
from workers.engine.scoring.result import BlockScores, check_numbers
from workers.engine.scoring.task import ScoringTask


def score(task: ScoringTask[HealedGreedyScoring]) -> BlockScores:
    """Search for the task's count of blocks to remove. The first always stays: no block stands before its cut.

    Returns:
        Values are divergences in nats per token. Where blocks found one at a time are best, of a removed block that
        of the healed model after its removal, of the others that of the last round's model without them; where a run
        is, of each block the least of the runs that hold it. None for blocks that were in no candidate. The order has
        the removed blocks first, then the others by value. `details` has what was judged, and how much text it took.
    """
    count, protected = replace(task, protected=task.protected | {0}).bounds()
    sets = HealedSets(task.model, task.tokens())
    candidates = [block for block in range(task.model.n_blocks) if block not in protected]
    starts = [start for start in candidates if set(range(start, start + count)) <= set(candidates)]
    runs = [tuple(range(start, start + count)) for start in starts] if task.options.sets != "scattered" else []
    scattered = task.options.sets != "runs" or not runs
    rounds = sum(len(candidates) - number for number in range(count)) if scattered else 0
    tell = _Count(task.progress, len(runs) + rounds)

    judged = {run: tell.after(sets.added(sets.nothing, run)) for run in runs}
    values: dict[int, float] = {}
    order: list[int] = []
    if scattered:
        values, order = _one_at_a_time(sets, candidates, count, tell)
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
        "fitted_tokens": sets.tokens[0],
        "judged_tokens": sets.tokens[1],
    }
    return BlockScores(found, None, [*order, *others], details)


def _one_at_a_time(
    sets: HealedSets, candidates: Sequence[int], count: int, tell: _Count
) -> tuple[dict[int, float], list[int]]:
    """The divergences by block, and the blocks in the order of their removal."""
    values: dict[int, float] = {}
    removed: list[int] = []
    base = sets.nothing
    for _ in range(count):
        left = [block for block in candidates if block not in removed]
        found = {block: tell.after(sets.added(base, (block,))) for block in left}
        check_numbers(list(found.values()))
        best = min(found, key=lambda block: (found[block], block))
        values.update(found)
        removed.append(best)
        if len(removed) < count:
            base = sets.taken(base, best)
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
