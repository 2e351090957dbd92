"""How far a model without some blocks would be from the original: healed quickly, judged on samples that were held out.

The healing is that of `healed_depths.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.engine.benchmarks.fidelity import kl_rows
from workers.engine.benchmarks.healed_depths import HealedDepths
from workers.engine.benchmarks.statistics import mean_interval
from workers.engine.model.block_model import BlockModel

Spread = tuple[float, float | None, float | None]  # a mean over samples with its 95 % interval; none of a single one


@dataclass(frozen=True)
class Distance:
    """From the original, on held-out samples."""

    kl: Spread  # nats per token
    top1_agreement: Spread


class HealedDistance:
    """Knows what the original predicts on the held-out samples."""

    @torch.no_grad()
    def __init__(self, model: BlockModel, ids: Tensor, *, heals: bool, seed: int) -> None:
        """`ids`, (samples, tokens); `heals`: whether cuts are healed, as they are where a recovery follows."""
        self._depths = HealedDepths(model, ids, heals=heals, seed=seed)
        self.tokens = self._depths.tokens
        self._final = self._depths.states(range(model.n_blocks))

    @torch.no_grad()
    def distance(self, kept: Sequence[int]) -> Distance:
        """Of the model that has the blocks `kept`, ascending. Raises StageFailed where states are not finite."""
        kl, same = _compared(self._depths.model, self._final, self._depths.states(kept))
        return Distance(mean_interval(kl), mean_interval(same))


def _compared(
    model: BlockModel, originals: Sequence[Tensor], others: Sequence[Tensor]
) -> tuple[list[float], list[float]]:
    """KL(original || other) in nats and the share of the same first tokens, each by sample.

    States come in pieces of (samples, tokens, hidden).
    """
    kl: list[float] = []
    same: list[float] = []
    with model.packed_head():
        for original, other in zip(originals, others, strict=True):
            samples, tokens = original.shape[:2]
            apart = torch.empty(samples * tokens, dtype=torch.float64)
            agreed = torch.empty(samples * tokens, dtype=torch.float64)
            for (rows, piece), (_, part) in zip(model.head_pieces(original), model.head_pieces(other), strict=True):
                expected, actual = (model.head(half).flatten(0, 1) for half in (piece, part))  # (rows, vocabulary)
                apart[rows] = kl_rows(expected, actual).double().cpu()
                agreed[rows] = (expected.argmax(-1) == actual.argmax(-1)).double().cpu()
            kl += apart.view(samples, tokens).mean(-1).tolist()
            same += agreed.view(samples, tokens).mean(-1).tolist()
    return kl, same
