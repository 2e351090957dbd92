"""Angular distance across a run of blocks: the run that turns the last token's state least goes.

The Unreasonable Ineffectiveness of the Deeper Layers (Gromov et al. 2024, arXiv 2403.17887), section 3.2:
d(l, n) = arccos(cos(h_l, h_{l+n})) / pi at the last token, averaged over samples; h_l is the state before block l.
The n consecutive blocks l … l + n - 1 with the least d are removed together.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.contract.errors import InvalidInput
from secateur.contract.options.scoring import AngularScoring
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress
from workers.engine.scoring.intact_states import stream
from workers.engine.scoring.result import BlockScores, check_numbers
from workers.engine.scoring.subsets import sample_groups
from workers.engine.scoring.task import ScoringTask


def score(task: ScoringTask[AngularScoring]) -> BlockScores:
    """Angular distance across the run that starts at each block, from 0 (same direction) to 1 (opposite).

    The run has as many blocks as will go, and touches none that is protected. The text is without padding.

    Returns:
        The value of block l is that of the run l … l + count - 1, None where none starts; the order is the best run.

    Raises:
        InvalidInput: no run of this length avoids the protected blocks.
    """
    model, tokens = task.model, task.tokens()
    count, protected = task.bounds()
    starts = range(model.n_blocks - count + 1)
    allowed = [start for start in starts if protected.isdisjoint(range(start, start + count))]
    if not allowed:
        raise InvalidInput.field(
            "blocks",
            f"No {count} consecutive blocks are free of protected ones.",
            value=count,
            expected="fewer blocks, or fewer of them protected",
        )
    states = _last_token_states(model, tokens, task.progress)  # (n_blocks + 1, samples, hidden)
    cosine = F.cosine_similarity(states[: len(starts)], states[count:], dim=-1)  # (runs, samples)
    distance = cosine.clamp(-1, 1).arccos() / math.pi
    values: list[float | None] = [None] * model.n_blocks
    values[: len(starts)] = distance.mean(dim=1).tolist()
    check_numbers(values)
    errors: list[float | None] | None = None
    if tokens.shape[0] > 1:
        errors = [None] * model.n_blocks
        errors[: len(starts)] = (distance.std(dim=1) / math.sqrt(tokens.shape[0])).tolist()
    best = min(allowed, key=lambda start: (values[start], start))
    return BlockScores(values, errors, list(range(best, best + count)), {"run_length": count, "start": best})


def _last_token_states(model: BlockModel, ids: Tensor, progress: Progress) -> Tensor:
    """(n_blocks + 1, samples, hidden) in fp64 on the CPU."""
    groups = list(sample_groups(model, ids, 2))
    parts = []
    for number, group in enumerate(groups):
        rows = []
        for depth, hidden in stream(model, ids[group]):
            rows.append(hidden[:, -1].double().cpu())
            progress(number * model.n_blocks + depth, len(groups) * model.n_blocks, "block passes")
        parts.append(torch.stack(rows))
    return torch.cat(parts, dim=1)
