"""KL divergence of predictions from the intact model's, without a full logits tensor of either."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.engine.model.block_model import BlockModel


@torch.no_grad()
def kl_from(model: BlockModel, original: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Mean over tokens of KL(original || other), in nats.

    The original's predictions are made once for all others, piece by piece.

    Args:
        original: (samples, tokens, hidden), the intact model's state before the head.
        others: states of the same shape.

    Returns:
        (len(others), samples), fp64 on the CPU.
    """
    samples, tokens = original.shape[:2]
    found = torch.empty((len(others), samples * tokens), dtype=torch.float64)
    pieces = zip(model.head_pieces(original), *(model.head_pieces(other) for other in others), strict=True)
    with model.packed_head():
        for (rows, piece), *parts in pieces:
            expected = model.head(piece).float().flatten(0, 1).log_softmax(-1)  # (rows, vocabulary)
            weight = expected.exp()
            for index, (_, part) in enumerate(parts):
                actual = model.head(part).float().flatten(0, 1).log_softmax(-1)
                found[index, rows] = (weight * (expected - actual)).sum(-1).double().cpu()
    return found.view(len(others), samples, tokens).mean(-1)


def mean_kl(model: BlockModel, originals: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Mean over all tokens of KL(original || other), in nats, of states in pieces of (samples, tokens, hidden)."""
    total, tokens = 0.0, 0
    for original, other in zip(originals, others, strict=True):
        found = kl_from(model, original, [other])  # by sample
        total += float(found.sum()) * original.shape[1]
        tokens += original.shape[0] * original.shape[1]
    return total / tokens
