"""Windows of tokens through a model, a few at a time: what perplexity and fidelity have in common.

A window's last hidden states are computed whole and its logits in pieces, so memory depends neither on the number of
windows nor on the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.contract.results import TextInfo
from workers.engine.model.block_model import BlockModel


@dataclass(frozen=True)
class Windows:
    """Tokens to measure on."""

    ids: Tensor  # (windows, tokens)
    text: TextInfo
    protocol: str
    overlap: int = 0  # tokens that a window shares with the one before

    def counted(self) -> Tensor:
        """Which predictions count: (windows, tokens - 1) of booleans. Those that a window before made do not."""
        counted = torch.ones((len(self.ids), self.ids.shape[1] - 1), dtype=torch.bool)
        if self.overlap:
            counted[1:, : self.overlap - 1] = False
        return counted


@torch.no_grad()
def last_states(model: BlockModel, ids: Tensor) -> Tensor:
    """The states that leave the last block: (windows, tokens) → (windows, tokens, hidden)."""
    hidden = model.embed(ids)
    for block in model.blocks():
        hidden = block(hidden)
    return hidden


def window_means(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over the predictions that count, of each window: two (windows, tokens - 1) → (windows,), float64."""
    return (values.double() * counted).sum(1) / counted.sum(1)
