"""Perplexity of the model with one block removed, for every block in one walk; the lowest go first.

Shortened LLaMA (Kim et al. 2024, arXiv 2402.02834), section 3.2: exp of the mean next-token loss of the model that
misses one block, on 10 samples of 128 tokens. The paper builds each reduced model and runs it. Here the blocks are
walked once and one state per removal is carried along (`subsets.py`), which halves the block passes, touches each
weight once, and so scores a model that does not fit in memory.

With `racing`, samples are spent in rounds. After each, a block leaves the race whose loss lies so far above the
`count` lowest that further samples would hardly bring it among them: two and a half standard errors of the mean
difference from the `count`-th block, on the same tokens. Tokens of one sample may go up and down together, so the
error is the larger of that over tokens and that over samples. A block that left has the score of its samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from secateur.contract.options.scoring import PerplexityScoring
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Meter, Progress
from workers.engine.scoring.result import BlockScores, check_numbers
from workers.engine.scoring.subsets import Removal, passes_needed, sample_groups, states_at_once, walk
from workers.engine.scoring.task import ScoringTask

INTACT: Removal = frozenset()
_FIRST_ROUND = 0.2  # fraction of the samples that every block gets in a race
_ROUND = 0.1  # fraction of the samples that each further round gives
_MARGIN = 2.5  # standard errors beyond which a block is out


def score(task: ScoringTask[PerplexityScoring]) -> BlockScores:
    """Perplexity without each block.

    Nothing is random. A race is a search, so it needs to know how many blocks will go.

    Returns:
        Values are perplexities; standard errors are theirs across samples, to first order
        (perplexity x standard error of the mean loss). `details` has the perplexity of the intact model, the
        block passes (of all samples), and in a race the samples that each block was given.
    """
    model, tokens = task.model, task.tokens()
    if task.options.racing:
        count, protected = task.bounds()
        with model.packed_whole():
            losses, passes = _race(model, tokens, count, protected, task.progress)
    else:
        wanted = [INTACT, *(frozenset({block}) for block in range(model.n_blocks))]
        found, passes = losses_without(model, tokens, wanted, meter=_meter(model, tokens, wanted, task.progress))
        losses = {removal: nll.mean(1) for removal, nll in found.items()}
    values, errors = zip(*(_perplexity(losses.get(frozenset({block}))) for block in range(model.n_blocks)), strict=True)
    details: dict[str, Any] = {
        "perplexity": _perplexity(losses[INTACT])[0],
        "block_passes": passes / len(tokens),
        "racing": task.options.racing,
    }
    if task.options.racing:
        given = [len(losses.get(frozenset({block}), ())) for block in range(model.n_blocks)]
        details["samples_given"] = given
        check_numbers(values)
        return BlockScores(list(values), list(errors), _by_survival(values, given), details)
    return BlockScores.lowest_first(values, standard_errors=errors, details=details)


def losses_without(
    model: BlockModel, ids: Tensor, removals: Sequence[Removal], *, meter: Meter
) -> tuple[dict[Removal, Tensor], int]:
    """Next-token losses of the model without each of `removals`, (samples, tokens - 1) in nats, fp64 on the CPU.

    Also returns how many times a block was applied to a sample; `meter` counts that, and the head as what it costs.
    """
    passes = 0

    def count() -> None:
        nonlocal passes
        passes += samples
        meter.add(samples)

    parts: dict[Removal, list[Tensor]] = {removal: [] for removal in removals}
    with model.packed_head():
        for group in sample_groups(model, ids, states_at_once(model.n_blocks, removals)):
            samples = len(ids[group])
            for removal, hidden in walk(model, ids[group], removals, on_pass=count):
                parts[removal].append(model.head_nll(hidden, ids[group]).double().cpu())
                meter.add(model.head_worth * samples)
    return {removal: torch.cat(nll) for removal, nll in parts.items()}, passes


def _meter(model: BlockModel, ids: Tensor, removals: Sequence[Removal], progress: Progress) -> Meter:
    """Of a walk over `removals` and the head of each."""
    passes = passes_needed(model.n_blocks, removals) + model.head_worth * len(removals)
    return Meter(progress, passes * len(ids), "block passes")


def _perplexity(losses: Tensor | None) -> tuple[float | None, float | None]:
    """exp(mean) of (samples,) mean losses, and its standard error to first order; (None, None) without losses."""
    if losses is None:
        return None, None
    value = math.exp(min(float(losses.mean()), 700.0))  # the greatest exponent that a double takes
    if losses.numel() < 2:
        return value, None
    return value, value * float(losses.std()) / math.sqrt(losses.numel())


def _race(
    model: BlockModel, ids: Tensor, count: int, protected: frozenset[int], progress: Progress
) -> tuple[dict[Removal, Tensor], int]:
    """Mean loss per sample of each removal, as many samples as it was given; protected blocks do not run."""
    racing = [frozenset({block}) for block in range(model.n_blocks) if block not in protected]
    meter = _meter(model, ids, [INTACT, *racing], progress)
    seen: dict[Removal, list[Tensor]] = {INTACT: [], **{removal: [] for removal in racing}}
    passes = 0
    for samples in _rounds(ids.shape[0]):
        found, more = losses_without(model, ids[samples], [INTACT, *racing], meter=meter)
        passes += more
        for removal, nll in found.items():
            seen[removal].append(nll)
        racing = _survivors({removal: torch.cat(seen[removal]) for removal in racing}, count)
    meter.finish()
    return {removal: torch.cat(nll).mean(1) for removal, nll in seen.items() if nll}, passes


def _rounds(samples: int) -> list[slice]:
    """A first round of a fifth of the samples, then rounds of a tenth each."""
    first, step = (max(1, math.ceil(samples * part)) for part in (_FIRST_ROUND, _ROUND))
    bounds = [0, *range(first, samples, step), samples]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


def _survivors(losses: Mapping[Removal, Tensor], count: int) -> list[Removal]:
    """Removals that may still be among the `count` lowest; `losses` are (samples, tokens), the same for all."""
    ranked = sorted(losses, key=lambda removal: (float(losses[removal].mean()), min(removal)))
    bar = losses[ranked[count - 1]]
    kept = []
    for place, removal in enumerate(ranked):
        ahead = losses[removal] - bar  # paired, so what all blocks find hard cancels out
        if place < count or float(ahead.mean()) <= _MARGIN * max(_error(ahead.flatten()), _error(ahead.mean(1))):
            kept.append(removal)
    return sorted(kept, key=min)


def _error(values: Tensor) -> float:
    """The standard error of the mean of (n,) values; 0 for a single one."""
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _by_survival(values: Sequence[float | None], given: Sequence[int]) -> list[int]:
    """Blocks that ran longer first, then by value: a score from few samples does not overtake one from all."""
    return sorted(range(len(values)), key=lambda block: (-given[block], values[block] or math.inf, block))
