"""One less the cosine of a block's input and output, averaged by batch; the lowest go first.

Minitron's depth importance (Muralidharan et al. 2024, arXiv 2407.14679), as NVIDIA Model-Optimizer computes it: per
batch 1 - mean cosine in fp32, summed over batches. Block influence is the same quantity summed over tokens; the two
differ where batches weigh differently, and in their defaults.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from secateur.contract.options.scoring import CosineScoring
from workers.engine.scoring.result import BlockScores
from workers.engine.scoring.similarity import block_similarity
from workers.engine.scoring.task import ScoringTask


def score(task: ScoringTask[CosineScoring]) -> BlockScores:
    """Sum over batches of 1 - mean cos(input, output) per block; standard errors are of the sum, across batches.

    The last batch may be smaller.
    """
    model, tokens = task.model, task.tokens()
    size = task.options.batch_size
    similarity = block_similarity(model, tokens, task.progress)  # (n_blocks, samples)
    batches = torch.stack([1 - part.mean(dim=1) for part in similarity.tensor_split(_cuts(tokens, size), dim=1)])
    errors = None
    if len(batches) > 1:
        errors = (batches.std(dim=0) * math.sqrt(len(batches))).tolist()
    return BlockScores.lowest_first(
        batches.sum(dim=0).tolist(), standard_errors=errors, details={"batches": len(batches)}
    )


def _cuts(ids: Tensor, size: int) -> list[int]:
    return list(range(size, ids.shape[0], size))
