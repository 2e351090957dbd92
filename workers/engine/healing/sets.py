"""Sets of blocks judged with their cuts healed: the original's states at every depth, from which any set is looked at.

Healing here is quick: the block before each cut alone. Where its down-projection has a closed form, that is fitted;
where none holds, the block is trained on its states if that is asked for, and else left as it is. The last samples are
held out, and what is said of a set is KL(original ‖ model) on them.

Since the original's states are kept, a set costs one fit for each cut, and the kept blocks after its first cut.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.engine.healing.cuts import cut_ends
from workers.engine.healing.fit import Aim, fit_projection, through
from workers.engine.healing.judge import hold_out
from workers.engine.healing.local_regression import RegressionSettings, regress
from workers.engine.healing.projections import BlockChange, projections_of
from workers.engine.model.batches import batches
from workers.engine.model.block_model import Block, BlockModel
from workers.engine.model.divergence import mean_kl
from workers.engine.runtime import available_memory

MEMORY_SHARE = 0.25  # of what is free: what the states of all depths may take

States = list[Tensor]  # in pieces of (samples, tokens, hidden)


@dataclass(frozen=True)
class HealedModel:
    """Which blocks are gone, what is added to others, and the states before each kept block."""

    removed: frozenset[int]
    changes: dict[int, BlockChange]
    fitted: dict[int, States]  # from the first cut on; before it they are the original's
    held: dict[int, States]


@dataclass(frozen=True)
class JudgedSet:
    """How far from the original a model without some blocks is on the held-out samples, in nats per token."""

    kl_pruned: float
    kl_healed: float  # never above the former: what does not help is left out
    changes: dict[int, BlockChange]  # block of the original → what healing adds to its parameters


@dataclass(frozen=True)
class _Step:
    """A kept block of a healed model."""

    block: int
    fitted: States  # that enter it
    held: States
    change: BlockChange
    left: States  # that leave it, of the held-out samples


class HealedSets:
    """The original's states at every depth, and what can be judged by them."""

    @torch.no_grad()
    def __init__(self, model: BlockModel, ids: Tensor, *, trained: RegressionSettings | None = None) -> None:
        """`ids`, (samples, tokens), of which no more are taken than memory holds the states of.

        Args:
            trained: how blocks are trained in which no closed form holds; None: they stay as they are.
        """
        self._model = model
        self._trained = trained
        state = 2 * (model.n_blocks + 1) * ids.shape[1] * model.hidden_size * model.dtype.itemsize  # bytes per sample
        most = max(2, int(MEMORY_SHARE * available_memory(model.device) / state))
        self.fitted_ids, self.held_ids = hold_out(ids[:most])
        self.tokens = (self.fitted_ids.numel(), self.held_ids.numel())
        self._fitted = [[model.embed(piece) for _, piece in batches(self.fitted_ids)]]  # by depth
        self._held = [[model.embed(piece) for _, piece in batches(self.held_ids)]]
        for block in model.blocks():
            self._fitted.append([block(state) for state in self._fitted[-1]])
            self._held.append([block(state) for state in self._held[-1]])
        self.nothing = HealedModel(frozenset(), {}, {}, {})

    def divergence(self, states: Sequence[Tensor]) -> float:
        """KL(original ‖ model) in nats per token, of the states in which a model leaves the held-out samples."""
        return mean_kl(self._model, self._held[-1], states)

    @torch.no_grad()
    def added(self, base: HealedModel, blocks: Collection[int]) -> float:
        """The divergence without these blocks too, which stand in a row behind one that is kept.

        Other cuts keep what was fitted for them in `base`.
        """
        ends = self._ends(base.removed | set(blocks))
        (before,) = [block for block, end in ends.items() if any(block < gone <= end for gone in blocks)]
        following = [block for block in range(ends[before] + 1, self._model.n_blocks) if block not in base.removed]
        states = base.held.get(before, self._held[before])
        for block in self._model.blocks([before, *following]):
            if block.index == before:
                fitted = base.fitted.get(before, self._fitted[before])
                change = self._heal(block, ends[before], fitted, states)
            else:
                change = base.changes.get(block.index, {})
            states = through(block, states, change)
        return self.divergence(states)

    @torch.no_grad()
    def taken(self, base: HealedModel, block: int) -> HealedModel:
        """The healed model without this block too, with every cut fitted anew."""
        found = HealedModel(base.removed | {block}, {}, {}, {})
        for step in self._healed(found.removed):
            found.fitted[step.block], found.held[step.block] = step.fitted, step.held
            if step.change:
                found.changes[step.block] = step.change
        return found

    @torch.no_grad()
    def judged(self, removed: Collection[int]) -> JudgedSet:
        """The model without these blocks, wherever they stand, as it is left and healed."""
        start, kept = self._kept(removed)
        states = self._held[start]
        for block in self._model.blocks(kept):
            states = [block(state) for state in states]
        pruned = self.divergence(states)
        changes: dict[int, BlockChange] = {}
        for step in self._healed(removed):
            if step.change:
                changes[step.block] = step.change
            states = step.left
        healed = self.divergence(states)
        return JudgedSet(pruned, healed, changes) if healed < pruned else JudgedSet(pruned, pruned, {})

    def _healed(self, removed: Collection[int]) -> Iterator[_Step]:
        """The kept blocks from the one before the first cut on, each cut healed when its turn comes."""
        ends = self._ends(removed)
        start, kept = self._kept(removed)
        fitted, held = self._fitted[start], self._held[start]
        for block in self._model.blocks(kept):
            change = self._heal(block, ends[block.index], fitted, held) if block.index in ends else {}
            left = through(block, held, change)
            yield _Step(block.index, fitted, held, change, left)
            fitted, held = through(block, fitted, change), left

    def _ends(self, removed: Iterable[int]) -> dict[int, int]:
        gone = set(removed)
        return cut_ends([block for block in range(self._model.n_blocks) if block not in gone], self._model.n_blocks)

    def _kept(self, removed: Collection[int]) -> tuple[int, list[int]]:
        """The depth at which the original's states hold to the last, and the blocks that are left from there on."""
        start = max(0, min(removed) - 1)
        return start, [block for block in range(start, self._model.n_blocks) if block not in removed]

    def _heal(self, block: Block, end: int, fitted: States, held: States) -> BlockChange:
        """What the block before a cut is to add to its parameters; nothing where that cannot be told."""
        down = projections_of(block, held[0][:1]).down
        if down is not None:
            fit = fit_projection(
                block,
                down,
                down=down,
                fitted=Aim(fitted, self._fitted[end + 1]),
                held=Aim(held, self._held[end + 1]),
            )
            return down.as_parameters(fit.change)
        if self._trained is None:
            return {}
        found = regress(
            block,
            (fitted, self._fitted[end + 1]),
            (held, self._held[end + 1]),
            trained=lambda name: True,
            settings=self._trained,
            seed=0,
            tell=lambda share: None,
        )
        return found.change
