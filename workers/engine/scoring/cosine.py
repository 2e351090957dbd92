"""One less the cosine of a block's input and output, averaged by batch; the lowest go first.

Minitron's depth importance (Muralidharan et al. 2024, arXiv 2407.14679), as NVIDIA Model-Optimizer computes it: per
batch 1 - mean cosine in fp32, summed over batches. Block influence is the same quantity summed over tokens; the two
differ where batches weigh differently, and in their defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from secateur.contract.errors import InvalidInput
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress
from workers.engine.scoring.result import BlockScores
from workers.engine.scoring.settings import require_ids
from workers.engine.scoring.similarity import block_similarity


def score(
    model: BlockModel, ids: Tensor | None, *, options: Mapping[str, Any], progress: Progress, seed: int
) -> BlockScores:
    """Sum over batches of 1 - mean cos(input, output) per block; standard errors are of the sum, across batches.

    Args:
        ids: (samples, tokens) calibration tokens.
        options: `batch_size`, samples per batch (1 by default; the last batch may be smaller).
        seed: unused.
    """
    tokens = model.check_ids(require_ids(ids))
    size = options.get("batch_size", 1)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise InvalidInput.field(
            "/scoring/batch_size",
            f"A batch of {size} samples cannot be.",
            value=size,
            expected="a whole number from 1",
        )
    similarity = block_similarity(model, tokens, progress)  # (n_blocks, samples)
    batches = torch.stack([1 - part.mean(dim=1) for part in similarity.tensor_split(_cuts(tokens, size), dim=1)])
    errors = None
    if len(batches) > 1:
        errors = (batches.std(dim=0) * math.sqrt(len(batches))).tolist()
    return BlockScores.lowest_first(
        batches.sum(dim=0).tolist(), standard_errors=errors, details={"batches": len(batches)}
    )


def _cuts(ids: Tensor, size: int) -> list[int]:
    return list(range(size, ids.shape[0], size))
