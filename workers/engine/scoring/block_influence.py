"""Block influence: how far a block turns the hidden state; the lowest go first.

ShortGPT (Men et al. 2024, arXiv 2403.03853): the sum over calibration tokens of 1 - cos(block's input, block's
output). One forward sweep of the intact model, and no head.
"""

from __future__ import annotations

import math

from secateur.contract.options.scoring import BlockInfluenceScoring
from workers.engine.scoring.result import BlockScores
from workers.engine.scoring.similarity import block_similarity
from workers.engine.scoring.task import ScoringTask


def score(task: ScoringTask[BlockInfluenceScoring]) -> BlockScores:
    """Sum over tokens of 1 - cos(input, output) per block; standard errors are of the sum, across samples."""
    model, tokens = task.model, task.tokens()
    samples = tokens.shape[0]
    turned = (1 - block_similarity(model, tokens, task.progress)) * tokens.shape[1]  # (n_blocks, samples)
    errors = None
    if samples > 1:
        errors = (turned.std(dim=1) * math.sqrt(samples)).tolist()
    return BlockScores.lowest_first(turned.sum(dim=1).tolist(), standard_errors=errors)
