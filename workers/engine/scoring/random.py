"""A random number per block: the baseline that every criterion must beat."""

from __future__ import annotations

import random

from secateur.contract.options.scoring import RandomScoring
from workers.engine.scoring.result import BlockScores
from workers.engine.scoring.task import ScoringTask


def score(task: ScoringTask[RandomScoring]) -> BlockScores:
    """Uniform numbers from 0 to 1, the same for the same seed."""
    generator = random.Random(task.seed)
    blocks = task.model.n_blocks
    values = [generator.random() for _ in range(blocks)]
    task.progress(blocks, blocks, "blocks")
    return BlockScores.lowest_first(values)
