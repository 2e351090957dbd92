"""Greedy search over blocks: remove the block whose loss hurts least, look again, remove the next.

SLEB (Song et al. 2024, arXiv 2402.09025): each round bypasses each remaining block but the first and the last, takes
the one with the least summed next-token loss, and drops it for good. It sees what one-shot scores cannot, that
removing one block makes another matter, at the cost of a round per block. How a round shares its work with the
others is in `rounds.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress
from workers.engine.scoring.result import BlockScores
from workers.engine.scoring.rounds import search
from workers.engine.scoring.settings import count_and_protected, require_ids
from workers.engine.scoring.subsets import BLOCKS


def score(
    model: BlockModel, ids: Tensor | None, *, options: Mapping[str, Any], progress: Progress, seed: int
) -> BlockScores:
    """Search for `count` blocks to remove.

    Args:
        ids: (samples, tokens) calibration tokens.
        options: `count` and `protected`; the first and the last block are always protected.
        seed: unused, nothing is random.

    Returns:
        Values are mean next-token losses in nats: of a removed block that of the model after its removal, of the
        others that of the last round's model without them, over the samples that they ran, None for protected
        ones. The order has the removed blocks in the order of their removal, then the others by value. `details`
        counts the block passes (each over all samples), and those that plain rounds would have taken.
    """
    tokens = model.check_ids(require_ids(ids))
    ends = {0, model.n_blocks - 1}
    count, protected = count_and_protected(
        {**options, "protected": ends | set(options.get("protected", ()))}, model.n_blocks
    )
    candidates = [block for block in range(model.n_blocks) if block not in protected]
    return search(model, tokens, candidates, count=count, units=BLOCKS, progress=progress)
