"""Windows of tokens through a model, a few at a time: what perplexity and fidelity have in common.

A window's last hidden states are computed whole and its logits in pieces, so memory depends neither on the number of
windows nor on the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from workers.engine.blocks import BlockModel

TOKENS_AT_ONCE = 4096


def batches(ids: Tensor) -> Iterator[tuple[int, Tensor]]:
    """`ids`, (windows, tokens), in pieces of about TOKENS_AT_ONCE tokens, each with the number of its first window."""
    rows = max(1, TOKENS_AT_ONCE // ids.shape[1])
    for start in range(0, len(ids), rows):
        yield start, ids[start : start + rows]


@torch.no_grad()
def last_states(model: BlockModel, ids: Tensor) -> Tensor:
    """The states that leave the last block: (windows, tokens) → (windows, tokens, hidden)."""
    hidden = model.embed(ids)
    for block in model.blocks():
        hidden = block(hidden)
    return hidden
