"""Rounds of a greedy search, over whole blocks or over halves of blocks.

Each round takes the candidate with the least summed next-token loss and drops it for good. A plain round runs every
candidate model from end to end. Here a round is one walk that shares what the candidates have in common
(`subsets.py`), and it starts from the states of the rounds before: what lies ahead of what was dropped last has not
changed. And no candidate runs longer than it can win: the leader after half of the samples runs to the end, and any
other whose losses already sum to more than the leader's total is out, since losses only add up. All of that leaves
the outcome what it is in plain rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress
from workers.engine.scoring.result import BlockScores, check_numbers
from workers.engine.scoring.subsets import (
    Removal,
    StateCache,
    Units,
    passes_needed,
    sample_groups,
    states_at_once,
    walk,
)

# States kept from round to round. All that a round of 30 blocks computes on 10 x 128 tokens of a 135M model is 1.3 GB.
CACHE_BYTES = 2**31


def search(
    model: BlockModel, ids: Tensor, candidates: Sequence[int], *, count: int, units: Units, progress: Progress
) -> BlockScores:
    """Remove `count` of `candidates`, one per round.

    Args:
        ids: (samples, tokens).
        candidates: numbers of units.
        units: what they stand for; values and order of the result are by unit.

    Returns:
        Values are mean next-token losses in nats, see `greedy.py`.
    """
    rounds = _Rounds(model, ids, units)
    n_units = model.n_blocks * units.per_block
    losses: dict[int, Tensor] = {}  # unit → mean losses, by sample, of the last model without it
    history: list[dict[str, Any]] = []
    removed: list[int] = []
    plain = 0
    with model.packed_whole():
        for number in range(count):
            left = [unit for unit in candidates if unit not in removed]
            found = rounds.losses(frozenset(removed), left, _part(progress, number, count))
            losses.update(found)
            check_numbers([float(found[unit].mean()) if unit in found else None for unit in range(n_units)])
            finished = [unit for unit in left if len(found[unit]) == ids.shape[0]]
            best = min(finished, key=lambda unit: (float(found[unit].mean()), unit))
            plain += sum(rounds.blocks_left(frozenset([*removed, unit])) for unit in left)
            removed.append(best)
            history.append({"removed": best, "loss": float(found[best].mean())})
            rounds.forget(frozenset(removed))
    values = [float(losses[unit].mean()) if unit in losses else None for unit in range(n_units)]
    errors: list[float | None] | None = None
    if ids.shape[0] > 1:
        errors = [
            float(losses[unit].std()) / math.sqrt(len(losses[unit])) if len(losses.get(unit, ())) > 1 else None
            for unit in range(n_units)
        ]
    others = sorted(losses.keys() - set(removed), key=lambda unit: (values[unit], unit))
    details = {
        "rounds": history,
        "block_passes": rounds.sample_passes / ids.shape[0],
        "plain_block_passes": plain,
    }
    return BlockScores(values, errors, [*removed, *others], details)


class _Rounds:
    """Losses of candidates, round after round, with the states that rounds have in common."""

    def __init__(self, model: BlockModel, ids: Tensor, units: Units) -> None:
        self.sample_passes = 0  # applications of a block to one sample
        self._work = 0.0  # these, and the head as so many of them as it costs
        self._model = model
        self._ids = ids
        self._units = units
        first = [frozenset({unit}) for unit in range(model.n_blocks * units.per_block)]
        self._opening, self._groups = _groups(model, ids, states_at_once(model.n_blocks, first, units=units))
        state = ids.numel() * model.hidden_size * model.dtype.itemsize  # bytes, all samples
        stride = max(1, math.ceil(passes_needed(model.n_blocks, first, units=units) * state / CACHE_BYTES))
        limits = [CACHE_BYTES * (group.stop - group.start) // ids.shape[0] for group in self._groups]
        self._caches = [StateCache(limit, stride=stride) for limit in limits]

    def losses(
        self, removed: Removal, candidates: list[int], progress: Callable[[float, float], None]
    ) -> dict[int, Tensor]:
        """Mean next-token loss without `removed` and each candidate, of each sample that the candidate ran."""
        removals = [removed | {unit} for unit in candidates]
        passes = passes_needed(self._model.n_blocks, removals, units=self._units)
        most = (passes + self._model.head_worth * len(removals)) * self._ids.shape[0]
        before = self._work

        def run(group: int, some: list[int]) -> None:
            wanted = [removed | {unit} for unit in some]
            for unit, found in self._run(group, removed, wanted):
                parts[unit].append(found)
                progress(min(self._work - before, most), most)

        parts: dict[int, list[Tensor]] = {unit: [] for unit in candidates}
        for group in range(self._opening):
            run(group, candidates)
        leader = min(candidates, key=lambda unit: (_total(parts[unit]), unit))
        for group in range(self._opening, len(self._groups)):
            run(group, [leader])
        bar = _total(parts[leader])
        others = [unit for unit in candidates if unit != leader]
        for group in range(self._opening, len(self._groups)):
            others = [unit for unit in others if not _total(parts[unit]) > bar]  # NaN stays, to be reported
            if others:
                run(group, others)
        progress(most, most)
        return {unit: torch.cat(found) for unit, found in parts.items()}

    def _run(self, group: int, removed: Removal, wanted: list[Removal]) -> Iterator[tuple[int, Tensor]]:
        """Each candidate of `wanted` with its mean losses on one group of samples."""
        ids = self._ids[self._groups[group]]

        def count() -> None:
            self.sample_passes += len(ids)
            self._work += len(ids)

        for removal, hidden in walk(
            self._model, ids, wanted, units=self._units, cache=self._caches[group], on_pass=count
        ):
            (unit,) = removal - removed
            found = self._model.head_nll(hidden, ids).double().mean(1).cpu()
            self._work += self._model.head_worth * len(ids)
            yield unit, found

    def blocks_left(self, removed: Removal) -> int:
        """Blocks that still run, in whole or in part, without `removed`."""
        return sum(not self._units.at(depth) <= removed for depth in range(self._model.n_blocks))

    def forget(self, removed: Removal) -> None:
        """Drop states that no candidate beyond `removed` can come from."""

        def useful(depth: int, prefix: Removal) -> bool:
            gone = {unit for unit in removed if unit < depth * self._units.per_block}
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


def _part(progress: Progress, number: int, count: int) -> Callable[[float, float], None]:
    """Progress within round `number` of `count`, as thousandths of the whole search."""

    def report(done: float, most: float) -> None:
        progress(number * 1000 + round(1000 * done / most), count * 1000, "thousandths of rounds")

    return report
