"""How many of a draft's tokens a target would take, were the draft without some blocks: healed quickly, as a proxy.

The text is the target's own, written greedily, so the target's token at each place is the one that stands there. A
draft proposes the likeliest token after what stands before; greedily it is taken where that is the same. This is done
on samples that nothing was fitted on, and only where the target wrote (and not where a prompt stands).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.engine.benchmarks.healed_depths import HealedDepths
from workers.engine.benchmarks.statistics import mean_interval
from workers.engine.healing.judge import hold_out
from workers.engine.model.block_model import BlockModel

Spread = tuple[float, float | None, float | None]  # a mean over samples with its 95 % interval; none of a single one


class HealedAcceptance:
    """Knows what the target wrote on the held-out samples."""

    def __init__(self, model: BlockModel, ids: Tensor, written: Tensor, *, heals: bool, seed: int) -> None:
        """`ids` and which of them the target wrote, (samples, tokens); `heals`: whether cuts are healed."""
        self._depths = HealedDepths(model, ids, heals=heals, seed=seed)
        self.tokens = self._depths.tokens
        _, self._written = hold_out(written)

    @torch.no_grad()
    def of(self, kept: Sequence[int]) -> Spread:
        """Of the model that has the blocks `kept`, ascending. Raises StageFailed where states are not finite."""
        model, held = self._depths.model, self._depths.held
        proposed = []
        with model.packed_head():
            for states in self._depths.states(kept):
                samples, tokens = states.shape[:2]
                likeliest = torch.empty(samples * tokens, dtype=torch.long)
                for rows, logits in model.head_chunks(states):
                    likeliest[rows] = logits.argmax(-1).cpu()
                proposed.append(likeliest.view(samples, tokens))
        taken = torch.cat(proposed)[:, :-1] == held[:, 1:].cpu()
        counted = self._written[:, 1:].cpu()
        weights = counted.sum(-1)
        asked = weights > 0
        shares = (taken & counted).sum(-1)[asked] / weights[asked]
        if not len(shares):  # the target wrote nothing there
            return 0.0, None, None
        return mean_interval(shares.tolist(), weights=weights[asked].double().tolist())
