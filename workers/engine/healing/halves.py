"""Healing of a model that lost halves of blocks: what is left of a block makes up for what is gone, by least squares.

A block that lost a half, and one before a cut of whole blocks, has the last projection that it still has fitted so that
the state that leaves it is the original's: its down-projection, or the attention's output projection where the MLP is
gone. As in `walk.py`, tokens count by the reciprocal of their target's mean square, a ridge holds the change to none,
and what makes the predictions worse on held-out samples is left out. Where no closed form holds the block stays as it
is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.engine.healing.fit import Aim, fit_projection, through
from workers.engine.healing.judge import hold_out
from workers.engine.healing.projections import BlockChange, last_projection
from workers.engine.model.batches import batches
from workers.engine.model.block_model import Block, BlockModel
from workers.engine.model.divergence import mean_kl
from workers.engine.model.reduced_blocks import HALVES_OF_A_BLOCK, Half, without_halves
from workers.engine.progress import Progress, no_progress

Gone = Mapping[int, Sequence[Half]]  # block → the halves that it has lost
States = list[Tensor]  # in pieces of (samples, tokens, hidden)


@dataclass(frozen=True)
class HalfFit:
    """What was fitted in one block."""

    block: int
    last: int  # the last whole block of the cut after it; the block itself where there is none
    change: BlockChange
    ridge: float
    error_before: float  # of the state, as in `walk.CutFit`
    error_after: float
    kl_before: float  # from the original on held-out samples, with all that was taken before
    kl_after: float  # with this too

    @property
    def helps(self) -> bool:
        """Whether the change brings the predictions nearer to the original's."""
        return self.kl_after < self.kl_before


@dataclass(frozen=True)
class HealedHalves:
    """What was fitted in every block that could be, and what came of it."""

    fits: list[HalfFit]  # block by block, those that do not help too
    kl: float  # from the original on held-out samples, with all that helps; nats per token


@torch.no_grad()
def heal_halves(
    model: BlockModel,
    gone: Gone,
    ids: Tensor,
    *,
    changeable: Callable[[int, str], bool] = lambda block, name: True,
    progress: Progress = no_progress,
) -> HealedHalves:
    """Fit block after block, each on what the healed ones before it give.

    Args:
        model: the original.
        ids: (samples, tokens); the last fifth is held out.
        changeable: whether a parameter of a block may be changed.

    Raises:
        StageFailed: the states are not finite.
    """
    return _Walk(model, gone, ids, changeable, progress).run()


class _Walk:
    """The walk, and where it stands."""

    def __init__(
        self,
        model: BlockModel,
        gone: Gone,
        ids: Tensor,
        changeable: Callable[[int, str], bool],
        progress: Progress,
    ) -> None:
        self._model, self._gone, self._changeable, self._progress = model, gone, changeable, progress
        fitted, held = hold_out(model.check_ids(ids))
        self._whole = [[model.embed(piece) for _, piece in batches(part)] for part in (fitted, held)]
        self._healed = [list(states) for states in self._whole]
        self._final = self._whole[1]
        for block in model.blocks():
            self._final = through(block, self._final, {})

    def run(self) -> HealedHalves:
        fits: list[HalfFit] = []
        count, at = self._model.n_blocks, 0
        while at < count:
            end = at  # the block itself, or the last of those that are gone after it
            while not self._goes_whole(at) and end + 1 < count and self._goes_whole(end + 1):
                end += 1
            for position, block in enumerate(self._model.blocks([*range(at, end + 1), at])):
                if position <= end - at:
                    self._whole = [through(block, states, {}) for states in self._whole]
                elif not self._goes_whole(at):
                    fits += self._mended(block, end)
            at = end + 1
            self._progress(at, count, "blocks")
        return HealedHalves(fits, mean_kl(self._model, self._final, self._healed[1]))

    def _mended(self, block: Block, end: int) -> list[HalfFit]:
        """Take the healed states through a block, fitted where something is gone from it or after it."""
        touched = end > block.index or bool(self._gone.get(block.index))
        fit = self._fit(block, end) if touched else None
        change = fit.change if fit is not None and fit.helps else {}
        self._healed = [self._left(block, states, change) for states in self._healed]
        return [] if fit is None else [fit]

    def _fit(self, block: Block, end: int) -> HalfFit | None:
        gone = self._gone.get(block.index, ())
        with without_halves(block, gone):
            projection = last_projection(block, self._healed[1][0][:1], gone)
        if projection is None or not all(self._changeable(block.index, name) for name in projection.parameters):
            return None
        fitted, held = (Aim(states, whole) for states, whole in zip(self._healed, self._whole, strict=True))
        with without_halves(block, gone):
            fit = fit_projection(block, projection, down=projection, fitted=fitted, held=held)
        change = projection.as_parameters(fit.change)
        before, after = (
            self._divergence(self._left(block, self._healed[1], some), block.index) for some in ({}, change)
        )
        return HalfFit(block.index, end, change, fit.ridge, fit.left_before, fit.left_after, before, after)

    def _left(self, block: Block, states: Sequence[Tensor], change: BlockChange) -> States:
        """The states that leave what is left of a block, with the change."""
        with without_halves(block, self._gone.get(block.index, ())):
            return through(block, states, change)

    def _divergence(self, states: States, after: int) -> float:
        """From the original on the held-out samples; the blocks that follow are as pruning leaves them."""
        order = [number for number in range(after + 1, self._model.n_blocks) if not self._goes_whole(number)]
        for block in self._model.blocks(order):
            states = self._left(block, states, {})
        return mean_kl(self._model, self._final, states)

    def _goes_whole(self, block: int) -> bool:
        return len(self._gone.get(block, ())) == len(HALVES_OF_A_BLOCK)
