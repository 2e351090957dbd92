"""The intact model's states, depth by depth, from one forward sweep.

What looks at the stream alone (block influence, cosine, angular distance) and what needs the block inputs (Taylor)
walks the blocks through here; removals are walked in `subsets.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from workers.engine.model.block_model import Block, BlockModel
from workers.engine.model.onednn_linear import packed_weights

# Tokens pushed through a block at once. On a CPU the activations of so many stay near its caches; a GPU wants more
# to be busy. Fixed numbers, so that the same input gives the same bits.
CPU_TOKENS = 2048
GPU_TOKENS = 32_768


def rows_at_once(state: Tensor) -> int:
    """How many samples of a (samples, tokens, hidden) state go through a block at once."""
    limit = CPU_TOKENS if state.device.type == "cpu" else GPU_TOKENS
    return max(1, limit // state.shape[1])


@torch.no_grad()
def through(block: Block, hidden: Tensor) -> Tensor:
    """The block on all samples, a few at a time: (samples, tokens, hidden) → the same shape."""
    rows = rows_at_once(hidden)
    with packed_weights(block.module):
        if hidden.shape[0] <= rows:
            return block(hidden)
        out = torch.empty_like(hidden)
        for at in range(0, hidden.shape[0], rows):
            out[at : at + rows] = block(hidden[at : at + rows])
        return out


def stream(model: BlockModel, ids: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield (depth, state before block `depth`); the last, at depth n_blocks, is the one that enters the head.

    Args:
        ids: (samples, tokens); states are (samples, tokens, hidden).
    """
    hidden = model.embed(ids)
    yield 0, hidden
    for block in model.blocks():
        hidden = through(block, hidden)
        yield block.index + 1, hidden
