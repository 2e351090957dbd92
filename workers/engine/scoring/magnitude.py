"""Sum of absolute weights of a block; the lowest go first.

Shortened LLaMA (Kim et al. 2024, arXiv 2402.02834), section 3.2: the sum of |w| over the block's linear and norm
weights. It needs no text. The baseline that the paper's other criteria beat.
"""

from __future__ import annotations

import torch

from secateur.contract.options.scoring import MagnitudeScoring
from workers.engine.scoring.result import BlockScores
from workers.engine.scoring.task import ScoringTask


@torch.no_grad()
def score(task: ScoringTask[MagnitudeScoring]) -> BlockScores:
    """Sum of |w| per block, accumulated in fp64."""
    model = task.model
    values: list[float | None] = []
    for block in model.blocks():
        values.append(sum(float(weight.abs().sum(dtype=torch.float64)) for _, weight in block.weights()))
        task.progress(block.index + 1, model.n_blocks, "blocks")
    return BlockScores.lowest_first(values)
