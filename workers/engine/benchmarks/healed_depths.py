"""A model without some blocks as a quick healing leaves it, on samples that were held out.

What a whole recovery gives is known after hours. Healing the cuts alone, without what follows them, takes one walk over
the original's blocks, and orders depths as the recovery does. It is a proxy: a training mostly ends nearer to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.engine.healing.fit import through
from workers.engine.healing.judge import hold_out
from workers.engine.healing.projections import BlockChange
from workers.engine.healing.walk import HealingSettings, fit_healing
from workers.engine.model.batches import batches
from workers.engine.model.block_model import BlockModel


class HealedDepths:
    """States of the held-out samples behind any choice of blocks."""

    @torch.no_grad()
    def __init__(self, model: BlockModel, ids: Tensor, *, heals: bool, seed: int) -> None:
        """`ids`, (samples, tokens); `heals`: whether cuts are healed, as they are where a recovery follows."""
        self.model = model
        self._ids = ids
        self._settings = HealingSettings(refit="none", seed=seed) if heals else None
        fitted, self.held = hold_out(ids)
        self.tokens = (fitted.numel(), self.held.numel())
        self._embedded = [model.embed(piece) for _, piece in batches(self.held)]

    @torch.no_grad()
    def states(self, kept: Sequence[int]) -> list[Tensor]:
        """Behind the blocks `kept`, ascending, healed: pieces of (samples, tokens, hidden).

        Raises:
            StageFailed: states are not finite.
        """
        changes: dict[int, BlockChange] = {}
        if self._settings is not None and len(kept) < self.model.n_blocks:
            changes = fit_healing(self.model, kept, self._ids, settings=self._settings).taken()
        states = self._embedded
        for block in self.model.blocks(kept):
            states = through(block, states, changes.get(block.index, {}))
        return states
