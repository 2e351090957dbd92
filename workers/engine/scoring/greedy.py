"""Greedy search over blocks: remove the block whose loss hurts least, look again, remove the next.

SLEB (Song et al. 2024, arXiv 2402.09025): each round bypasses each remaining block but the first and the last, takes
the one with the least summed next-token loss, and drops it for good. It sees what one-shot scores cannot, that
removing one block makes another matter, at the cost of a round per block. How a round shares its work with the
others is in `rounds.py`.
"""

from __future__ import annotations

from secateur.contract.options.scoring import GreedyScoring
from workers.engine.scoring.result import BlockScores
from workers.engine.scoring.rounds import search
from workers.engine.scoring.subsets import BLOCKS
from workers.engine.scoring.task import ScoringTask


def score(task: ScoringTask[GreedyScoring]) -> BlockScores:
    """Search for the task's count of blocks to remove. The first and the last always stay, and nothing is random.

    Returns:
        Values are mean next-token losses in nats: of a removed block that of the model after its removal, of the
        others that of the last round's model without them, over the samples that they ran, None for protected
        ones. The order has the removed blocks in the order of their removal, then the others by value. `details`
        counts the block passes (each over all samples), and those that plain rounds would have taken.
    """
    model, tokens = task.model, task.tokens()
    count, protected = task.bounds(ends=True)
    candidates = [block for block in range(model.n_blocks) if block not in protected]
    return search(model, tokens, candidates, count=count, units=BLOCKS, progress=task.progress)
