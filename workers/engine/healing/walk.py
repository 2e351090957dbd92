"""What healing fits, in one walk over the original's blocks: for each cut the block before it, then those that follow.

A cut of blocks i+1 … n is mended in block i: its down-projection is fitted by least squares so that the state that
leaves it is the original's after block n. ReplaceMe (Shopkhoev et al. 2025, arXiv 2505.02819) fits a map of what the
projection makes; its inputs are several times as many, so fitting the projection itself leaves less. The change is held
to none by a ridge, so little text means little change. Where no closed form holds, the block is trained
(`local_regression.py`).

The kept blocks after a cut can be fitted anew as well, each in turn on the states that the healed model gives it: the
attention's output projection towards the original's state before the MLP, then the down-projection towards its
state after the block. So what a cut's mending left is mended further on.

Each token counts by the reciprocal of its target's mean square (`state_error.py`): a plain fit would serve the few
tokens of massive activations, and spoil the rest. What makes the predictions worse on held-out samples is left out
(`judge.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from workers.engine.healing.cuts import cut_ends
from workers.engine.healing.fit import Aim, fit_projection, through
from workers.engine.healing.judge import Judge, hold_out
from workers.engine.healing.local_regression import RegressionSettings, regress
from workers.engine.healing.neurons import Transplant, layout_of, no_neurons
from workers.engine.healing.projections import (
    BlockChange,
    Projection,
    Projections,
    added,
    projections_of,
)
from workers.engine.healing.stream import Stream
from workers.engine.model.block_model import Block, BlockModel
from workers.engine.progress import Meter, Progress, no_progress

Refit = Literal["none", "after_cut"]


@dataclass(frozen=True)
class HealingSettings:
    """What may be fitted, and how."""

    refit: Refit = "after_cut"
    ridge: float | None = None  # None: chosen on held-out samples
    neurons: float = 0.0  # share of those of the block before a cut that may make room for removed blocks'
    regression: RegressionSettings = field(default_factory=RegressionSettings)
    changeable: Callable[[int, str], bool] = lambda block, name: True  # whether a parameter of a block may be changed
    seed: int = 0


@dataclass(frozen=True)
class _Fit:
    """What may be added to a block before a cut; the names are those of `CutFit`."""

    change: BlockChange
    neurons: int
    ridge: float | None
    error_before: float
    error_after: float


@dataclass(frozen=True)
class CutFit:
    """One cut, and what was fitted for it."""

    block: int  # of the original: the one before the cut
    last: int  # the last block of the cut
    change: BlockChange  # of the block before it
    ridge: float | None  # None where the block was trained
    error_before: float  # of the state after the cut, squared, over the mean square of the original's: the mean over
    error_after: float  # held-out tokens, without the change and with it
    kl_before: float  # from the original on the held-out samples, nats per token: with what was taken before
    kl_after: float  # and with this too
    neurons: int = 0  # of removed blocks that are in the change

    @property
    def helps(self) -> bool:
        """Whether the change brings the predictions nearer to the original's."""
        return self.kl_after < self.kl_before


@dataclass(frozen=True)
class Refitted:
    """Kept blocks in a row that were fitted anew after a cut."""

    blocks: tuple[int, ...]
    changes: Mapping[int, BlockChange]
    kl_before: float  # as in `CutFit`
    kl_after: float

    @property
    def helps(self) -> bool:
        """Whether the changes bring the predictions nearer to the original's."""
        return self.kl_after < self.kl_before


@dataclass(frozen=True)
class Healing:
    """Everything that was fitted, in the order of the blocks."""

    cuts: list[CutFit]
    refitted: list[Refitted] = field(default_factory=list)

    def taken(self) -> dict[int, BlockChange]:
        """What helps: block of the original → what is added to its parameters."""
        found: dict[int, BlockChange] = {cut.block: cut.change for cut in self.cuts if cut.helps}
        for group in self.refitted:
            if group.helps:
                found.update(group.changes)
        return found


@torch.no_grad()
def fit_healing(
    model: BlockModel,
    kept: Sequence[int],
    ids: Tensor,
    *,
    settings: HealingSettings | None = None,
    progress: Progress = no_progress,
) -> Healing:
    """Fit and judge a change for each cut that has a block before it, first to last, and for what follows.

    Args:
        model: the original; its blocks may be streamed: once, and for each judgement those after it once more.
        kept: its blocks that the pruned model has, ascending.
        ids: (samples, tokens).

    Raises:
        StageFailed: the states are not finite.
        UnsupportedModel: neurons are asked for, and the model has none that could be taken.
    """
    settings = settings or HealingSettings()
    ends = cut_ends(kept, model.n_blocks)
    if not ends:
        return Healing([])
    return _Walk(model, kept, ends, ids, settings, progress).run()


class _Walk:
    """The walk, and where it stands."""

    def __init__(
        self,
        model: BlockModel,
        kept: Sequence[int],
        ends: Mapping[int, int],
        ids: Tensor,
        settings: HealingSettings,
        progress: Progress,
    ) -> None:
        self._model = model
        self._kept = kept
        self._ends = ends
        self._settings = settings
        for_fit, for_judging = hold_out(ids)
        self._fitted, self._held = Stream.of(model, for_fit), Stream.of(model, for_judging)
        self._meter = Meter(progress, self._work(), "block passes")
        self._judge = Judge(model, for_judging, kept, self._meter)
        self._now: float | None = None  # the divergence with all that was taken so far

    @property
    def _streams(self) -> tuple[Stream, Stream]:
        return self._fitted, self._held

    def run(self) -> Healing:
        cuts: list[CutFit] = []
        refitted: list[Refitted] = []
        at = 0
        for before, end in [*self._ends.items(), (self._model.n_blocks, self._model.n_blocks)]:
            between = range(at, before)
            if cuts and self._settings.refit == "after_cut":
                refitted += self._refit(between)
            elif before < self._model.n_blocks:
                self._pass(between)
            if before < self._model.n_blocks:
                cuts.append(self._mend(before, end))
            at = end + 1
        return Healing(cuts, refitted)

    def _pass(self, numbers: Sequence[int]) -> None:
        for block in self._model.blocks(numbers):
            for stream in self._streams:
                if block.index in self._kept:
                    stream.pass_both(block)
                else:  # at the beginning of the model: no block stands before that cut
                    stream.pruned = list(stream.pruned)
                    stream.pass_whole(block)
            self._count(self._passes(block.index))

    def _mend(self, before: int, end: int) -> CutFit:
        """Fit the block before a cut, and take what helps."""
        transplant: Transplant | None = None
        for position, block in enumerate(self._model.blocks([*range(before, end + 1), before])):
            if position == 0 and self._settings.neurons:
                transplant = self._transplant(block)
            if position <= end - before:
                self._fitted.pass_whole(block, transplant)
                self._held.pass_whole(block)
                self._count(1)
                continue
            if self._now is None:
                self._now = self._judge.divergence(through(block, self._held.pruned, {}), after=before)
            cuts = []
            for found in self._fits(block, transplant):
                healed = self._judge.divergence(through(block, self._held.pruned, found.change), after=before)
                cuts.append(CutFit(before, end, **vars(found), kl_before=self._now, kl_after=healed))
            cut = min(cuts, key=lambda cut: (math.isnan(cut.kl_after), cut.kl_after))
            for stream in self._streams:
                stream.pruned = through(block, stream.pruned, cut.change if cut.helps else {})
            self._count(1)
            self._now = min(self._now, cut.kl_after)
        return cut

    def _transplant(self, block: Block) -> Transplant:
        """What gathers neurons for the block before a cut, which the walk has come to. Raises UnsupportedModel."""
        state, share = self._held.pruned[0][:1], self._settings.neurons
        layout = layout_of(block, state) if self._projections(block).down is not None else None
        if layout is None or not all(self._settings.changeable(block.index, part.name) for part in layout.stretches):
            raise no_neurons(
                f"Block {block.index} cannot take neurons of removed blocks: its MLP is not one that reads a norm and "
                "adds what it makes to the state as it is.",
                share,
            )
        return Transplant(block, layout, state, share=share)

    def _fits(self, block: Block, transplant: Transplant | None) -> Iterator[_Fit]:
        """What may be added to the block: without neurons of removed blocks, and where asked for with them."""
        down = self._projections(block).down
        if down is None:
            yield self._trained(block)
            return
        fitted, held = (Aim(stream.pruned, stream.whole) for stream in self._streams)
        begun: list[tuple[int, BlockChange]] = [(0, {})]
        if transplant is not None:
            begun.append((transplant.count, transplant.change(block)))
        error_before: float | None = None
        for neurons, change in begun:
            fit = fit_projection(
                block, down, down=down, fitted=fitted, held=held, change=change, ridge=self._settings.ridge
            )
            self._count(1)
            error_before = fit.left_before if error_before is None else error_before
            yield _Fit(added(change, down.as_parameters(fit.change)), neurons, fit.ridge, error_before, fit.left_after)

    def _trained(self, block: Block) -> _Fit:
        found = regress(
            block,
            (self._fitted.pruned, self._fitted.whole),
            (self._held.pruned, self._held.whole),
            trained=lambda name: self._settings.changeable(block.index, name),
            settings=self._settings.regression,
            seed=self._settings.seed,
            tell=self._count,
        )
        return _Fit(found.change, 0, None, found.left_before, found.left_after)

    def _projections(self, block: Block) -> Projections:
        """Those of a block that a closed form can change, and that the checkpoint can take."""
        found = projections_of(block, self._held.pruned[0][:1])

        def takes(projection: Projection | None) -> bool:
            names = projection.parameters if projection is not None else ()
            return all(self._settings.changeable(block.index, name) for name in names)

        return replace(
            found,
            attention=found.attention if takes(found.attention) else None,
            down=found.down if takes(found.down) else None,
        )

    def _refit(self, numbers: Sequence[int]) -> list[Refitted]:
        """Fit kept blocks in a row anew, each on what those before it give; leave it all if it does not help."""
        before = [list(stream.pruned) for stream in self._streams]
        changes: dict[int, BlockChange] = {}
        for block in self._model.blocks(numbers):
            found = self._projections(block)
            halfway, held_halfway = (stream.pass_halfway(block, found.down) for stream in self._streams)
            self._count(1)
            change: dict[str, Tensor] = {}
            for projection, targets, held_targets in (
                (found.attention, halfway, held_halfway),
                (found.down, self._fitted.whole, self._held.whole),
            ):
                if projection is not None and found.down is not None:
                    fit = fit_projection(
                        block,
                        projection,
                        down=found.down,
                        fitted=Aim(self._fitted.pruned, targets),
                        held=Aim(self._held.pruned, held_targets),
                        change=change,
                        ridge=self._settings.ridge,
                    )
                    change.update(projection.as_parameters(fit.change))
                self._count(1)
            for stream in self._streams:
                stream.pruned = through(block, stream.pruned, change)
            self._count(1)
            if change:
                changes[block.index] = change
        if not numbers:
            return []
        last = numbers[-1]
        assert self._now is not None  # a cut came before
        healed = self._judge.divergence(self._held.pruned, after=last)
        group = Refitted(tuple(changes), changes, self._now, healed)
        if not group.helps:
            for stream, states in zip(self._streams, before, strict=True):
                stream.pruned = states
            if last < self._model.n_blocks - 1:
                for block in self._model.blocks(numbers):
                    for stream in self._streams:
                        stream.pruned = through(block, stream.pruned, {})
        self._now = min(self._now, healed)
        return [group] if changes else []

    def _count(self, passes: float) -> None:
        """All pieces through as many blocks."""
        self._meter.add(passes * (len(self._fitted.whole) + len(self._held.whole)))

    def _passes(self, block: int) -> int:
        """How often a piece goes through a block that is left as it is: twice once the pruned states are its own."""
        return 2 if block in self._kept and any(number not in self._kept for number in range(block)) else 1

    def _work(self) -> float:
        """All of it, in passes of a piece through a block."""
        pieces, held, blocks = len(self._fitted.whole) + len(self._held.whole), len(self._held.whole), 0
        head = 2 * self._model.head_worth
        judged: list[int] = []  # after these blocks
        at, refit = 0, self._settings.refit == "after_cut"
        for before, end in [*self._ends.items(), (self._model.n_blocks, self._model.n_blocks)]:
            between = range(at, before)
            if refit and at > min(self._ends):
                blocks += 4 * len(between)
                judged += between[-1:]
            elif before < self._model.n_blocks:
                blocks += sum(self._passes(number) for number in between)
            if before < self._model.n_blocks:
                kinds = 2 if self._settings.neurons else 1
                blocks += end - before + 1 + kinds + 1
                judged += [before] * (kinds + (before == min(self._ends)))
            at = end + 1
        judging = sum(sum(block > after for block in self._kept) + head for after in judged)
        return pieces * blocks + held * (self._model.n_blocks + judging)
