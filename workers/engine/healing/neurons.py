"""Neurons of removed blocks that take the places of the weakest ones in the block before their cut.

A neuron of an MLP is a row of each projection that makes it (gate and up, or up alone) and a column of the
down-projection. It is worth the mean size of its activation times the norm of what it adds, on the original's own
states. Those of the removed blocks are gathered as the walk comes by them, never more than will be taken, so no block
is read again for it.

A row of a removed block was written for its own norm. Where that gives what the other block's norm gives, each channel
times a factor, the factors go into the row; an offset, which norms with biases have, goes into the projection's bias.
Both are measured on states, and so is that rows are neurons: rolled by one, they must roll the down-projection's
inputs. So nothing here knows families; experts and whatever else stands in an MLP's place have no neurons.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from secateur.contract.errors import UnsupportedModel
from secateur.contract.models.architecture import Architecture
from workers.engine.healing.projections import TOLERANCE, changed, module_at, watched
from workers.engine.model.block_model import Block


@dataclass(frozen=True)
class Stretch:
    """Part of an axis of a parameter that has one entry for each neuron."""

    name: str  # of the parameter, within the block
    axis: int
    start: int

    def of(self, parameter: Tensor, count: int) -> Tensor:
        """A view of it, (neurons, hidden), of a bias (neurons,)."""
        return parameter.movedim(self.axis, 0)[self.start : self.start + count]


@dataclass(frozen=True)
class Layout:
    """Where the neurons of a block's MLP lie."""

    count: int
    rows: tuple[Stretch, ...]  # of the projections that make them
    biases: tuple[Stretch, ...]  # of the same, or of none
    column: Stretch  # of the down-projection
    down: str  # its path within the block
    norm: str  # that of the module which makes the MLP's input

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        return (*self.rows, *self.biases, self.column)


@dataclass(frozen=True)
class Neurons:
    """Some of a block."""

    strength: Tensor  # (neurons,)
    parts: tuple[Tensor, ...]  # of each of the layout's stretches, (neurons, ...), fp32 on the CPU

    def or_of(self, other: Neurons) -> Neurons:
        """As many as these are: the strongest of both."""
        strength = torch.cat([self.strength, other.strength])
        places = strength.topk(len(self.strength)).indices
        both = zip(self.parts, other.parts, strict=True)
        return Neurons(strength[places], tuple(torch.cat(pair)[places] for pair in both))


Fold = tuple[Tensor, Tensor]  # by channel, (hidden,), fp64: a factor, and an offset


def check_neurons(architecture: Architecture, share: float) -> None:
    """Raises UnsupportedModel where neurons are asked for and the family is known to have none that could be taken."""
    if share and "moe" in architecture.quirks:
        raise no_neurons("Experts are not neurons that one block could take from another.", share)
    if share and "norm_after" in architecture.quirks:
        raise no_neurons(
            "A norm follows the MLP, so no down-projection can be fitted to neurons of other blocks.", share
        )


def no_neurons(why: str, share: float) -> UnsupportedModel:
    """The error of a model that cannot have them."""
    return UnsupportedModel.field("neurons", why, value=share, expected="0 for this model")


class Transplant:
    """Of one cut: it is fed the original's states before each of its blocks, and knows which neurons go where."""

    def __init__(self, block: Block, layout: Layout, state: Tensor, *, share: float) -> None:
        """Of the block before the cut, of whose neurons `share` make room; `state`: of samples that enter it."""
        self._before = block.index
        self._share = share
        self._layout = layout
        self._most = max(1, round(share * layout.count))
        self._probe = _into(block, layout.norm, state)
        self._normed = _from_norm(block, layout, self._probe)
        self._strength = torch.zeros(layout.count)
        self._found: Neurons | None = None

    @property
    def count(self) -> int:
        """How many neurons change places."""
        return self._most if self._found is not None else 0

    def follow(self, block: Block, states: Sequence[Tensor]) -> list[Tensor]:
        """The states that leave the block before the cut, or a removed one, whose strongest neurons are kept."""
        if block.index == self._before:
            left, self._strength = strengths(block, self._layout, states)
            return left
        fold = None
        if layout_of(block, states[0][:1]) == self._layout:
            fold = fold_of(
                self._normed, _from_norm(block, self._layout, self._probe), offsets=bool(self._layout.biases)
            )
        if fold is None:
            return [block(state) for state in states]
        left, strength = strengths(block, self._layout, states)
        found = _read(block.module, self._layout, strength, self._most, fold)
        self._found = found if self._found is None else self._found.or_of(found)
        return left

    def change(self, block: Block) -> dict[str, Tensor]:
        """What puts them in the places of the weakest of the block before the cut: parameter → what is added.

        Raises:
            UnsupportedModel: no removed block has neurons that do there what they did.
        """
        if self._found is None:
            raise no_neurons(
                f"No removed block after block {self._before} has neurons that it could take: what their norms make "
                "differs from what its own makes by more than its projections can take over.",
                self._share,
            )
        change: dict[str, Tensor] = {}
        places = self._strength.topk(self.count, largest=False).indices
        for stretch, values in zip(self._layout.stretches, self._found.parts, strict=True):
            parameter = block.module.get_parameter(stretch.name).data
            added = change.setdefault(stretch.name, torch.zeros(parameter.shape))
            old = stretch.of(parameter, self._layout.count)[places.to(parameter.device)]
            stretch.of(added, self._layout.count)[places] = values - old.float().cpu()
        return change


def layout_of(block: Block, state: Tensor) -> Layout | None:
    """Where the neurons lie, tried out on a state, (samples, tokens, hidden); None where there are none to be told."""
    row = block.model.architecture
    inside = f"{row.mlp}." if row.mlp else ""
    down = module_at(block.module, inside + row.down)
    found = [(name, times) for name, times in ((row.gate, 1), (row.up, 1), (row.fused_gate_up, 2)) if name]
    makers = [(inside + name, module_at(block.module, inside + name), times) for name, times in found]
    if not isinstance(down, nn.Linear | Conv1D) or not makers:
        return None
    count = down.weight.shape[0 if isinstance(down, Conv1D) else 1]
    rows: list[Stretch] = []
    biases: list[Stretch] = []
    for path, module, times in makers:
        if not isinstance(module, nn.Linear | Conv1D):
            return None
        axis = 1 if isinstance(module, Conv1D) else 0
        if module.weight.shape[axis] != times * count:
            return None
        rows += [Stretch(f"{path}.weight", axis, count * part) for part in range(times)]
        if module.bias is not None:
            biases += [Stretch(f"{path}.bias", 0, count * part) for part in range(times)]
    norm = _norm_before(block, makers[0][0], state)
    if norm is None or len(biases) not in (0, len(rows)):
        return None
    column = Stretch(f"{inside}{row.down}.weight", 0 if isinstance(down, Conv1D) else 1, 0)
    layout = Layout(count, tuple(rows), tuple(biases), column, inside + row.down, norm)
    return layout if _rolls(block, layout, state) else None


def fold_of(base: Tensor, other: Tensor, *, offsets: bool) -> Fold | None:
    """f and o with `other` = f `base` + o in each channel; None if there are none.

    Args:
        base, other: what two norms make of the same states, (..., hidden).
        offsets: whether o may be other than 0.
    """
    x, y = base.double().flatten(0, -2), other.double().flatten(0, -2)
    nothing = torch.zeros_like(x[0])
    mean_x, mean_y = (x.mean(0), y.mean(0)) if offsets else (nothing, nothing)
    factor = ((x - mean_x) * (y - mean_y)).sum(0) / (x - mean_x).square().sum(0).clamp(min=1e-30)
    offset = mean_y - factor * mean_x
    if (y - factor * x - offset).square().mean() > TOLERANCE * y.square().mean():
        return None
    return factor, offset


def strengths(block: Block, layout: Layout, states: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """The states that leave the block, and of each neuron the mean |activation| times the norm of its column."""
    left, tokens = [], 0
    total = torch.zeros(layout.count, dtype=torch.float64, device=states[0].device)
    with watched(block.module, [layout.down]) as seen:
        for state in states:
            left.append(block(state))
            activations = seen[layout.down].inputs.flatten(0, -2)  # (tokens, neurons)
            total += activations.abs().sum(0, dtype=torch.float64)
            tokens += len(activations)
    columns = layout.column.of(block.module.get_parameter(layout.column.name).data, layout.count)
    return left, (total / tokens * columns.double().norm(dim=1)).cpu()


def _read(module: nn.Module, layout: Layout, strength: Tensor, most: int, fold: Fold) -> Neurons:
    """The strongest of a block, with what its norm does folded in."""
    places = strength.topk(most).indices
    parts = []
    for stretch in layout.stretches:
        parameter = module.get_parameter(stretch.name).data
        parts.append(stretch.of(parameter, layout.count)[places.to(parameter.device)].double())
    factor, offset = fold
    rows = parts[: len(layout.rows)]
    for number in range(len(layout.biases)):
        parts[len(rows) + number] += rows[number] @ offset
    parts[: len(rows)] = [row * factor for row in rows]
    return Neurons(strength[places], tuple(part.float().cpu() for part in parts))


def _rolls(block: Block, layout: Layout, state: Tensor) -> bool:
    """Whether the down-projection's inputs move by one place if the rows do, and by nothing else."""
    change: dict[str, Tensor] = {}
    for stretch in (*layout.rows, *layout.biases):
        parameter = block.module.get_parameter(stretch.name).data.float()
        added = change.setdefault(stretch.name, torch.zeros_like(parameter))
        part = stretch.of(parameter, layout.count)
        stretch.of(added, layout.count).copy_(part.roll(1, 0) - part)
    with watched(block.module, [layout.down]) as seen:
        block(state)
        wanted = seen[layout.down].inputs.float().roll(1, -1)
        with changed(block.module, change):
            block(state)
        found = seen[layout.down].inputs.float()
    return bool((found - wanted).square().mean() <= TOLERANCE * wanted.square().mean())


def _norm_before(block: Block, path: str, state: Tensor) -> str | None:
    """The path of the norm whose output the projection takes."""
    made: list[tuple[str, Tensor]] = []

    def note(name: str) -> Any:
        return lambda _module, _args, output: made.append((name, output))

    norms = {name: module for name, module in block.module.named_modules() if "norm" in type(module).__name__.lower()}
    handles = [module.register_forward_hook(note(name)) for name, module in norms.items()]
    try:
        with watched(block.module, [path]) as seen:
            block(state)
    finally:
        for handle in handles:
            handle.remove()
    taken = seen[path].inputs  # OPT flattens its tokens
    same = [name for name, output in made if output.data_ptr() == taken.data_ptr() and output.numel() == taken.numel()]
    return same[-1] if same else None


def _into(block: Block, path: str, state: Tensor) -> Tensor:
    """What the module takes where the block is given the state."""
    with watched(block.module, [path]) as seen:
        block(state)
    return seen[path].inputs


def _from_norm(block: Block, layout: Layout, probe: Tensor) -> Tensor:
    """What the block's norm makes of the state, in fp32 whatever the model computes in."""
    made: Tensor = deepcopy(block.module.get_submodule(layout.norm)).float()(probe.float())
    return made
