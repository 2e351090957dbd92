"""Perplexity on windows that do not overlap, as LLM-Pruner and Shortened LLaMA (arXiv 2402.02834) measure it.

exp(mean loss over all predicted tokens). Within a window of n tokens n - 1 are predicted, each from those before it
in the window. Perplexities compare only under one protocol (window, stride, beginning-of-text tokens), so the
protocol is part of the figure. The interval resamples windows: losses of neighbouring tokens depend on each other.
"""

from __future__ import annotations

from math import exp
from typing import Literal

import torch
from torch import Tensor

from app.domain.results import Perplexity, TextInfo
from app.errors import StageFailed
from workers.engine.benchmarks.statistics import mean_interval
from workers.engine.benchmarks.windows import batches, last_states
from workers.engine.blocks import BlockModel
from workers.engine.progress import Progress, no_progress

_BOS = {"each": "each", "first": "the first", "none": "none"}


@torch.no_grad()
def window_losses(model: BlockModel, ids: Tensor, *, progress: Progress = no_progress) -> Tensor:
    """Mean loss of each window, in nats per predicted token: (windows, tokens) → (windows,), float64."""
    losses = torch.empty(len(ids), dtype=torch.float64)
    for start, piece in batches(ids):
        states = last_states(model, piece)
        losses[start : start + len(piece)] = model.head_nll(states, piece).double().mean(dim=1).cpu()
        progress(start + len(piece), len(ids), "windows")
    return losses


def perplexity(losses: Tensor, text: TextInfo, *, protocol: str) -> Perplexity:
    """The figure with its interval, from the mean loss of each window.

    Raises:
        StageFailed: the losses are not finite.
    """
    if not torch.isfinite(losses).all():
        raise StageFailed(
            f"The loss on {text.description} is not finite: the model's arithmetic overflows in this dtype, or its "
            'weights are broken. Try "dtype": "float32".'
        )
    mean, low, high = mean_interval(losses.tolist())
    if mean > 700:  # exp would overflow; a model so broken has no perplexity worth a number
        raise StageFailed(f"The loss on {text.description} is {mean:.0f} nats per token: the model predicts nothing.")
    return Perplexity(text=text, protocol=protocol, value=exp(mean), low=exp(low), high=exp(min(high, 709.0)))


def protocol_of(*, tokens: int, bos: Literal["each", "first", "none"]) -> str:
    """The protocol in words; `bos` says which windows begin with a beginning-of-text token."""
    return f"windows of {tokens} tokens, no overlap, {tokens - 1} predicted in each, BOS on {_BOS[bos]}"
