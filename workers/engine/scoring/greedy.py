"""Greedy search: remove the block whose loss hurts least, look again, remove the next.

SLEB (Song et al. 2024, arXiv 2402.09025): each round bypasses each remaining block but the first and the last, takes
the one with the least summed next-token loss, and drops it for good. It sees what one-shot scores cannot, that
removing one block makes another matter, at the cost of a round per block.

A plain round runs every candidate model from end to end. Here a round is one walk that shares what the candidates
have in common (`subsets.py`), and it starts from the states of the rounds before: what lies ahead of the block that
was dropped last has not changed. And no candidate runs longer than it can win: the leader after half of the samples
runs to the end, and any other whose losses already sum to more than the leader's total is out, since losses only
add up. All of that leaves the outcome what it is in plain rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from workers.engine.blocks import BlockModel
from workers.engine.progress import Progress
from workers.engine.scoring.result import BlockScores, check_numbers
from workers.engine.scoring.settings import count_and_protected, require_ids
from workers.engine.scoring.subsets import (
    Removal,
    StateCache,
    passes_needed,
    sample_groups,
    states_at_once,
    walk,
)

# States kept from round to round. All that a round of 30 blocks computes on 10 x 128 tokens of a 135M model is 1.3 GB.
CACHE_BYTES = 2**31


def score(
    model: BlockModel, ids: Tensor | None, *, options: Mapping[str, Any], progress: Progress, seed: int
) -> BlockScores:
    """Search for `count` blocks to remove.

    Args:
        ids: (samples, tokens) calibration tokens.
        options: `count` and `protected`; the first and the last block are always protected.
        seed: unused, nothing is random.

    Returns:
        Values are mean next-token losses in nats: of a removed block that of the model after its removal, of the
        others that of the last round's model without them, over the samples that they ran, None for protected
        ones. The order has the removed blocks in the order of their removal, then the others by value. `details`
        counts the block passes (each over all samples), and those that plain rounds would have taken.
    """
    tokens = model.check_ids(require_ids(ids))
    ends = {0, model.n_blocks - 1}
    count, protected = count_and_protected(
        {**options, "protected": ends | set(options.get("protected", ()))}, model.n_blocks
    )
    search = _Search(model, tokens)
    losses: dict[int, Tensor] = {}  # block → mean losses, by sample, of the last model without it
    rounds: list[dict[str, Any]] = []
    removed: list[int] = []
    plain = 0
    for number in range(count):
        candidates = [b for b in range(model.n_blocks) if b not in protected and b not in removed]
        found = search.losses(frozenset(removed), candidates, _part(progress, number, count))
        losses.update(found)
        check_numbers([float(found[b].mean()) if b in found else None for b in range(model.n_blocks)])
        finished = [block for block in candidates if len(found[block]) == tokens.shape[0]]
        best = min(finished, key=lambda block: (float(found[block].mean()), block))
        plain += len(candidates) * (model.n_blocks - len(removed) - 1)
        removed.append(best)
        rounds.append({"block": best, "loss": float(found[best].mean())})
        search.forget(frozenset(removed))
    values = [float(losses[b].mean()) if b in losses else None for b in range(model.n_blocks)]
    errors: list[float | None] | None = None
    if tokens.shape[0] > 1:
        errors = [
            float(losses[b].std()) / math.sqrt(len(losses[b])) if len(losses.get(b, ())) > 1 else None
            for b in range(model.n_blocks)
        ]
    others = sorted(losses.keys() - set(removed), key=lambda block: (values[block], block))
    details = {"rounds": rounds, "block_passes": search.sample_passes / tokens.shape[0], "plain_block_passes": plain}
    return BlockScores(values, errors, [*removed, *others], details)


class _Search:
    """Losses of candidates, round after round, with the states that rounds have in common."""

    def __init__(self, model: BlockModel, ids: Tensor) -> None:
        self.sample_passes = 0  # applications of a block to one sample
        self._model = model
        self._ids = ids
        first = [frozenset({block}) for block in range(model.n_blocks)]
        self._opening, self._groups = _groups(model, ids, states_at_once(model.n_blocks, first))
        state = ids.numel() * model.hidden_size * model.dtype.itemsize  # bytes, all samples
        stride = max(1, math.ceil(passes_needed(model.n_blocks, first) * state / CACHE_BYTES))
        limits = [CACHE_BYTES * (group.stop - group.start) // ids.shape[0] for group in self._groups]
        self._caches = [StateCache(limit, stride=stride) for limit in limits]

    def losses(
        self, removed: Removal, candidates: list[int], progress: Callable[[int, int], None]
    ) -> dict[int, Tensor]:
        """Mean next-token loss without `removed` and each candidate, of each sample that the candidate ran."""
        removals = [removed | {block} for block in candidates]
        most = passes_needed(self._model.n_blocks, removals) * self._ids.shape[0]
        before = self.sample_passes

        def run(group: int, blocks: list[int]) -> None:
            wanted = [removed | {block} for block in blocks]
            for block, found in self._run(group, removed, wanted):
                parts[block].append(found)
                progress(min(self.sample_passes - before, most), most)

        parts: dict[int, list[Tensor]] = {block: [] for block in candidates}
        for group in range(self._opening):
            run(group, candidates)
        leader = min(candidates, key=lambda block: (_total(parts[block]), block))
        for group in range(self._opening, len(self._groups)):
            run(group, [leader])
        bar = _total(parts[leader])
        others = [block for block in candidates if block != leader]
        for group in range(self._opening, len(self._groups)):
            others = [block for block in others if not _total(parts[block]) > bar]  # NaN stays, to be reported
            if others:
                run(group, others)
        progress(most, most)
        return {block: torch.cat(found) for block, found in parts.items()}

    def _run(self, group: int, removed: Removal, wanted: list[Removal]) -> Iterator[tuple[int, Tensor]]:
        """Each candidate of `wanted` with its mean losses on one group of samples."""
        ids = self._ids[self._groups[group]]

        def count() -> None:
            self.sample_passes += len(ids)

        for removal, hidden in walk(self._model, ids, wanted, cache=self._caches[group], on_pass=count):
            (block,) = removal - removed
            yield block, self._model.head_nll(hidden, ids).double().mean(1).cpu()

    def forget(self, removed: Removal) -> None:
        """Drop states that no candidate beyond `removed` can come from."""

        def useful(depth: int, prefix: Removal) -> bool:
            gone = {block for block in removed if block < depth}
            return gone <= prefix and len(prefix) <= len(gone) + 1

        for cache in self._caches:
            cache.keep(useful)


def _groups(model: BlockModel, ids: Tensor, states: int) -> tuple[int, list[slice]]:
    """Samples in groups: those that open a round, half of all, and then tenths. Returns how many open it, and all."""
    samples = ids.shape[0]
    half, tenth = math.ceil(samples / 2), math.ceil(samples / 10)
    stages = [slice(0, half), *(slice(at, min(at + tenth, samples)) for at in range(half, samples, tenth))]
    fitting = [
        [slice(stage.start + part.start, stage.start + part.stop) for part in sample_groups(model, ids[stage], states)]
        for stage in stages
    ]
    return len(fitting[0]), [group for stage in fitting for group in stage]


def _total(parts: list[Tensor]) -> float:
    return sum(float(part.sum()) for part in parts)


def _part(progress: Progress, number: int, count: int) -> Callable[[int, int], None]:
    """Progress within round `number` of `count`, as thousandths of the whole search."""

    def report(done: int, most: int) -> None:
        progress(number * 1000 + 1000 * done // most, count * 1000, "thousandths of rounds")

    return report
