"""The maps of healing: fitted in one walk over the original's blocks, and judged by what they do to the predictions.

Each token counts by the reciprocal of its target's mean square. A few tokens, such as the first of a sample, carry
activations thousands of times those of all others from some block on (massive activations, Sun et al. 2024, arXiv
2402.17762). Where a cut spans that block they are nearly all of the plain sum of squares, so a plain fit would serve
them and spoil the rest.

What is least in the states need not be best in the predictions. So each map is judged on samples that none is fitted
on: it is taken only if the pruned model with it is nearer to the original than without it, by the KL divergence, where
both have the maps that were taken at earlier cuts, and later cuts are as they are. The divergence of what is handed out
is therefore never above the pruned model's on those samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from secateur.contract.errors import UnsupportedModel
from secateur.contract.models.architecture import Architecture
from workers.engine.benchmarks.fidelity import kl_rows
from workers.engine.benchmarks.windows import batches
from workers.engine.model.block_model import Block, BlockModel
from workers.engine.progress import Meter, Progress, no_progress
from workers.engine.recovery.least_squares import fit_map, sums

HELD_OUT = 5  # one of so many samples, the last ones: the ridge is chosen on them, and the map is judged,
HELD_TOKENS = 4096  # but no more samples than hold so many tokens


@dataclass(frozen=True)
class CutMap:
    """One cut, and the map that was fitted for it."""

    block: int  # of the original: the one before the cut
    last: int  # the last block of the cut
    map: Tensor  # T, (hidden, hidden), fp64 on the CPU
    ridge: float
    error_before: float  # of the state after the cut, squared, over the mean square of the original's: the mean over
    error_after: float  # held-out tokens, without the map and with it
    kl_before: float  # from the original on the held-out samples, nats per token: with the earlier maps that were taken
    kl_after: float  # and with this one too

    @property
    def helps(self) -> bool:
        """Whether the map brings the predictions nearer to the original's."""
        return self.kl_after < self.kl_before


@dataclass
class _Stream:
    """Samples on their way through the original's blocks and through the healed pruned model's."""

    whole: list[Tensor]  # the original's state, in pieces
    pruned: list[Tensor]  # the same objects until the first cut
    bases: list[Tensor] = field(default_factory=list)  # between the block before a cut and the cut's end: A
    outputs: list[Tensor] = field(default_factory=list)  # and M

    @classmethod
    def of(cls, model: BlockModel, ids: Tensor) -> _Stream:
        whole = [model.embed(piece) for _, piece in batches(ids)]
        return cls(whole, list(whole))

    def walk(self, block: Block, *, kept: bool, last: bool) -> None:
        """Through one block; `last`: it stands before a cut."""
        for number, state in enumerate(self.pruned if kept else ()):
            same = state is self.whole[number]
            if last:
                base, output = without_mlp(block, state)
                self.bases.append(base)
                self.outputs.append(output)
            else:
                self.pruned[number] = block(state)
            if same:
                self.whole[number] = base + output if last else self.pruned[number]
            else:
                self.whole[number] = block(self.whole[number])
        if not kept:
            self.whole = [block(state) for state in self.whole]
        if last:
            self.pruned = []  # they are A + M

    def pieces(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """M, what it should become less M, and the tokens' weights, at the cut's end."""
        for base, output, target in zip(self.bases, self.outputs, self.whole, strict=True):
            rows, m = target.float().flatten(0, 1), output.float().flatten(0, 1)
            weights = rows.double().square().mean(1).clamp(min=1e-30).reciprocal()
            yield m, rows - base.float().flatten(0, 1) - m, weights

    def healed(self, map: Tensor | None) -> list[Tensor]:
        """The states after the cut: A + M T, or of no map A + M."""
        if map is None:
            return [base + output for base, output in zip(self.bases, self.outputs, strict=True)]
        there = map.to(self.bases[0].device)
        return [
            (base.double() + output.double() @ there).to(base.dtype)
            for base, output in zip(self.bases, self.outputs, strict=True)
        ]

    def go_on(self, map: Tensor | None) -> None:
        """Leave the cut behind."""
        self.pruned = self.healed(map)
        self.bases, self.outputs = [], []


class _Judge:
    """How far from the original a pruned model predicts that goes on from some state with the kept blocks."""

    def __init__(self, model: BlockModel, ids: Tensor, kept: Sequence[int], meter: Meter) -> None:
        self._model = model
        self._meter = meter
        self._kept = kept
        self._tokens = ids.numel()
        self._final = self._through([model.embed(piece) for _, piece in batches(ids)], range(model.n_blocks))

    def divergence(self, states: Sequence[Tensor], *, after: int) -> float:
        """Mean KL(original ‖ pruned) over all positions, in nats; `states` left the original's block `after`."""
        theirs = self._through(states, [block for block in self._kept if block > after])
        total = 0.0
        with self._model.packed_head():
            for whole, pruned in zip(self._final, theirs, strict=True):
                chunks = zip(self._model.head_chunks(whole), self._model.head_chunks(pruned), strict=True)
                total += sum(float(kl_rows(left, right).double().sum()) for (_, left), (_, right) in chunks)
                self._meter.add(2 * self._model.head_worth)
        return total / self._tokens

    def _through(self, states: Sequence[Tensor], order: Sequence[int]) -> list[Tensor]:
        found = list(states)
        for block in self._model.blocks(order):
            found = [block(state) for state in found]
            self._meter.add(len(found))
        return found


@torch.no_grad()
def fit_maps(
    model: BlockModel, kept: Sequence[int], ids: Tensor, *, ridge: float | None = None, progress: Progress = no_progress
) -> list[CutMap]:
    """Fit and judge a map for each cut that has a block before it, first to last.

    Args:
        model: the original; its blocks may be streamed. They are read once, and for each cut those after it again.
        kept: its blocks that the pruned model has, ascending.
        ids: (samples, tokens).

    Raises:
        UnsupportedModel: a block before a cut does not add its MLP's output to the state.
    """
    ends = cut_ends(kept, model.n_blocks)
    if not ends:
        return []
    for_fit, for_judging = hold_out(ids)
    fitted, held = _Stream.of(model, for_fit), _Stream.of(model, for_judging)
    meter = _meter(model, kept, ends, pieces=(len(fitted.whole), len(held.whole)), progress=progress)
    judge, now = None, 0.0
    found: list[CutMap] = []
    at = 0
    for before, end in ends.items():
        for block in model.blocks(range(at, end + 1)):
            for stream in (fitted, held):
                stream.walk(block, kept=block.index in kept, last=block.index == before)
            meter.add((len(fitted.whole) + len(held.whole)) * _passes(block.index, kept))
        at = end + 1
        fit = fit_map(sums(fitted.pieces()), sums(held.pieces()), ridge=ridge)
        if judge is None:
            judge = _Judge(model, for_judging, kept, meter)
            now = judge.divergence(held.healed(None), after=before)
        healed = judge.divergence(held.healed(fit.map), after=before)
        cut = CutMap(before, end, fit.map, fit.ridge, fit.left_before, fit.left_after, now, healed)
        found.append(cut)
        for stream in (fitted, held):
            stream.go_on(cut.map if cut.helps else None)
        now = min(now, healed)
    return found


def hold_out(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Samples to fit maps on, and the last ones to judge them on; a single sample is cut in two for it.

    Samples come in the order of their text, so the last are of other documents than the rest. Samples from between
    would share theirs, and a map that holds for these documents alone would pass.

    >>> [len(part) for part in hold_out(torch.zeros((64, 128)))], [len(part) for part in hold_out(torch.zeros((1, 9)))]
    ([52, 12], [1, 1])
    """
    if len(ids) == 1:
        half = ids.shape[1] // 2
        ids = ids[:, : 2 * half].view(2, half)
    count = max(1, min(len(ids) // HELD_OUT, HELD_TOKENS // ids.shape[1]))
    return ids[:-count], ids[-count:]


def cut_ends(kept: Sequence[int], n_blocks: int) -> dict[int, int]:
    """For each kept block that stands before a cut, the last block of the cut.

    >>> cut_ends([0, 1, 4, 6], 8)
    {1: 3, 4: 5, 6: 7}
    """
    following = [*kept[1:], n_blocks]
    return {block: after - 1 for block, after in zip(kept, following, strict=True) if after != block + 1}


def _passes(block: int, kept: Sequence[int]) -> int:
    """How often the fit sends a piece through a block: twice once the pruned model's states are its own."""
    return 2 if block in kept and any(kept[number] != number for number in range(kept.index(block) + 1)) else 1


def _meter(
    model: BlockModel, kept: Sequence[int], ends: Mapping[int, int], *, pieces: tuple[int, int], progress: Progress
) -> Meter:
    """Of the whole work, in passes of a piece through a block."""
    fit, held = pieces
    walked = sum(_passes(block, kept) for block in range(max(ends.values()) + 1))
    judged = [before for before in ends for _ in range(2 if before == min(ends) else 1)]
    judging = sum(sum(block > before for block in kept) + 2 * model.head_worth for before in judged)
    return Meter(progress, (fit + held) * walked + held * (model.n_blocks + judging), "block passes")


def down_path(architecture: Architecture) -> str:
    """The down-projection's name within a block."""
    return f"{architecture.mlp}.{architecture.down}" if architecture.mlp else architecture.down


def without_mlp(block: Block, state: Tensor) -> tuple[Tensor, Tensor]:
    """A and M of one block: what leaves it without its down-projection, and what that adds.

    Raises:
        UnsupportedModel: the down-projection's output does not reach the state as it is, up to a factor.
    """
    architecture = block.model.architecture
    try:
        down = block.module.get_submodule(down_path(architecture))
    except AttributeError:
        down = None
    if not isinstance(down, nn.Linear | Conv1D):
        raise UnsupportedModel(
            f"Healing folds a map into a block's one down-projection, which block {block.index} of this "
            f"{architecture.family} model does not have."
        )
    with _output_of(down) as seen:
        whole = block(state)
    with _output_of(down, silent=True):
        base = block(state)
    added, made = (whole - base).float(), seen[0].view_as(whole).float()  # OPT flattens its tokens
    factor = (added * made).sum() / made.square().sum().clamp(min=1e-30)
    if (added - factor * made).square().mean() > 1e-3 * added.square().mean():
        raise UnsupportedModel(
            f"Healing needs a block to add its MLP's output to the state as it is; block {block.index} of this "
            f"{architecture.family} model puts something between, such as a norm."
        )
    return base, (factor * made).to(base.dtype)


@contextmanager
def _output_of(module: nn.Module, *, silent: bool = False) -> Iterator[list[Tensor]]:
    """Record what `module` gives while the block runs; `silent` makes it nothing."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor | None:
        seen.append(output.clone())  # some families add to it in place
        return torch.zeros_like(output) if silent else None

    handle = module.register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()
