"""Perplexity on windows of a text.

exp(mean loss over all predicted tokens). Within a window of n tokens n - 1 are predicted, each from those before it
in the window. LLM-Pruner and Shortened LLaMA (arXiv 2402.02834) take windows that do not overlap; with a stride,
windows overlap and a token counts in the first that predicts it, so that it has more context. Perplexities compare only
under one protocol (window, stride, beginning-of-text tokens), so the protocol is part of the figure. The interval
resamples windows: losses of neighbouring tokens depend on each other.
"""

from __future__ import annotations

from math import exp
from typing import Literal

import torch
from torch import Tensor

from secateur.contract.errors import StageFailed
from secateur.contract.measurements import Perplexity
from workers.engine.benchmarks.statistics import mean_interval
from workers.engine.benchmarks.windows import Windows, last_states, window_means
from workers.engine.model.batches import batches
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress, no_progress

_BOS = {"each": "each", "first": "the first", "none": "none", "some": "some"}


@torch.no_grad()
def window_losses(model: BlockModel, windows: Windows, *, progress: Progress = no_progress) -> Tensor:
    """Mean loss of each window over the tokens that count, in nats: (windows,), float64."""
    losses = torch.empty(len(windows.ids), dtype=torch.float64)
    counted = windows.counted()
    with model.packed_head():
        for start, piece in batches(windows.ids):
            span = slice(start, start + len(piece))
            losses[span] = window_means(model.head_nll(last_states(model, piece), piece).cpu(), counted[span])
            progress(start + len(piece), len(losses), "windows")
    return losses


def perplexity(losses: Tensor, windows: Windows, *, original: Tensor | None = None) -> Perplexity:
    """The figure with its interval, from the mean loss of each window.

    Args:
        original: the original's losses on the same windows; None for the original itself.

    Raises:
        StageFailed: the losses are not finite.
    """
    name = windows.text.description
    if not torch.isfinite(losses).all():
        raise StageFailed(
            f"The loss on {name} is not finite: the model's arithmetic overflows in this dtype, or its weights are "
            'broken. Try "dtype": "float32".'
        )
    weights = windows.counted().sum(1).tolist()
    mean, low, high = mean_interval(losses.tolist(), weights=weights)
    if mean > 700:  # exp would overflow; a model so broken has no perplexity worth a number
        raise StageFailed(f"The loss on {name} is {mean:.0f} nats per token: the model predicts nothing.")
    ratio: tuple[float | None, ...] = (None, None, None)
    if original is not None:  # windows in pairs: one that is hard is so for both, and cancels
        ratio = tuple(map(_exp, mean_interval((losses - original).tolist(), weights=weights)))
    return Perplexity(
        text=windows.text,
        protocol=windows.protocol,
        value=exp(mean),
        low=_exp(low),
        high=_exp(high),
        ratio=ratio[0],
        ratio_low=ratio[1],
        ratio_high=ratio[2],
    )


def _exp(value: float | None) -> float | None:
    """exp, of nothing nothing, and of what would overflow the most that there is."""
    return None if value is None else exp(min(value, 709.0))


def protocol_of(*, tokens: int, bos: Literal["each", "first", "none", "some"], overlap: int = 0) -> str:
    """The protocol in words; `bos` says which windows begin with a beginning-of-text token."""
    if overlap:
        how = f"stride {tokens - overlap}, each token predicted once"
    else:
        how = f"no overlap, {tokens - 1} predicted in each"
    return f"windows of {tokens} tokens, {how}, BOS on {_BOS[bos]}"
