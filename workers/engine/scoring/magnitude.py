"""Sum of absolute weights of a block; the lowest go first.

Shortened LLaMA (Kim et al. 2024, arXiv 2402.02834), section 3.2: the sum of |w| over the block's linear and norm
weights. It needs no text. The baseline that the paper's other criteria beat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress
from workers.engine.scoring.result import BlockScores


@torch.no_grad()
def score(
    model: BlockModel, ids: Tensor | None, *, options: Mapping[str, Any], progress: Progress, seed: int
) -> BlockScores:
    """Sum of |w| per block, accumulated in fp64. `ids`, `options` and `seed` are unused."""
    values: list[float | None] = []
    for block in model.blocks():
        values.append(sum(float(weight.abs().sum(dtype=torch.float64)) for _, weight in block.weights()))
        progress(block.index + 1, model.n_blocks, "blocks")
    return BlockScores.lowest_first(values)
