"""How far a variant's predictions are from the original's: KL divergence, and agreement on the likeliest token.

KL(original ‖ variant) = Σ p · (log p - log q) over the vocabulary, the mean over tokens, in nats (Kullback and Leibler
1951). Unlike perplexity it has no reward for adapting to the measured text: a variant that was trained on like text
and now predicts it better than the original is further from the original, and this figure says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.contract.errors import StageFailed
from secateur.contract.measurements import Fidelity
from workers.engine.benchmarks.statistics import mean_interval
from workers.engine.benchmarks.windows import Windows, last_states, window_means
from workers.engine.model.batches import batches
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress, no_progress


@dataclass(frozen=True)
class Divergence:
    """Per window, the mean over its predicted tokens; both (windows,), float64."""

    kl: Tensor  # nats per token
    agreement: Tensor  # fraction of positions with the same likeliest token


@torch.no_grad()
def divergence(
    original: BlockModel, variant: BlockModel, windows: Windows, *, progress: Progress = no_progress
) -> Divergence:
    """Compare the predictions of two models of one vocabulary, at the positions that perplexity is measured on."""
    kl = torch.empty(len(windows.ids), dtype=torch.float64)
    agreement = torch.empty(len(windows.ids), dtype=torch.float64)
    counted = windows.counted()
    with original.packed_head(), variant.packed_head():
        for start, piece in batches(windows.ids):
            ours, theirs = (last_states(model, piece)[:, :-1] for model in (original, variant))
            rows = ours.shape[0] * ours.shape[1]
            divergences = torch.empty(rows, dtype=torch.float64)
            same = torch.empty(rows, dtype=torch.float64)
            pairs = zip(original.head_chunks(ours), variant.head_chunks(theirs), strict=True)
            for (span, left), (_, right) in pairs:
                divergences[span] = kl_rows(left, right).double().cpu()
                same[span] = (left.argmax(-1) == right.argmax(-1)).double().cpu()
            here = slice(start, start + len(piece))
            kl[here] = window_means(divergences.view(len(piece), -1), counted[here])
            agreement[here] = window_means(same.view(len(piece), -1), counted[here])
            progress(start + len(piece), len(kl), "windows")
    return Divergence(kl, agreement)


def kl_rows(left: Tensor, right: Tensor) -> Tensor:
    """KL divergence of each row: two (rows, vocabulary) of logits → (rows,), fp32."""
    p, q = left.float().log_softmax(-1), right.float().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def fidelity(found: Divergence, windows: Windows) -> Fidelity:
    """The figures, with their intervals over windows.

    Raises:
        StageFailed: the divergence is not finite.
    """
    if not torch.isfinite(found.kl).all():
        raise StageFailed(
            f"The KL divergence on {windows.text.description} is not finite: a model's arithmetic overflows in this "
            'dtype. Try "dtype": "float32".'
        )
    weights = windows.counted().sum(1).tolist()
    mean, low, high = mean_interval(found.kl.tolist(), weights=weights)
    same, least, most = mean_interval(found.agreement.tolist(), weights=weights)
    return Fidelity(
        text=windows.text,
        kl=max(mean, 0.0),  # rounding can put a divergence of nothing below zero
        kl_low=None if low is None else max(low, 0.0),
        kl_high=None if high is None else max(high, 0.0),
        top1_agreement=same,
        top1_agreement_low=least,
        top1_agreement_high=most,
    )
