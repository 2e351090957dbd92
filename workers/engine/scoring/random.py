"""A random number per block: the baseline that every criterion must beat."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress
from workers.engine.scoring.result import BlockScores


def score(
    model: BlockModel, ids: Tensor | None, *, options: Mapping[str, Any], progress: Progress, seed: int
) -> BlockScores:
    """Uniform numbers from 0 to 1, the same for the same seed. `ids` and `options` are unused."""
    generator = random.Random(seed)
    values = [generator.random() for _ in range(model.n_blocks)]
    progress(model.n_blocks, model.n_blocks, "blocks")
    return BlockScores.lowest_first(values)
