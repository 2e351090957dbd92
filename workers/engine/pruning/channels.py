"""What width pruning may take out of a block: head groups and neurons, and where each lies in which tensor.

A *group* is one key-value head with all query heads that read it: of grouped-query attention nothing smaller can go
and leave a model that transformers loads, and with as many key-value heads as query heads a group is a head. A
*neuron* is one channel between the MLP's up- and down-projection. Every tensor that has channels of these along an
axis is described by a `Cut`: which axis, and which stretches of it belong to which unit. Importance and rewriting
both read this table, so fused projections need no code of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.pytorch_utils import Conv1D

from secateur.contract.errors import UnsupportedModel
from secateur.contract.models.architecture import Architecture

Unit = Literal["group", "neuron"]


@dataclass(frozen=True)
class Segment:
    """A stretch of an axis: all units one after the other, each `width` channels wide."""

    unit: Unit
    width: int


@dataclass(frozen=True)
class Cut:
    """One axis of one tensor, made of segments in their order."""

    name: str  # of the parameter, within the block
    axis: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Kept:
    """What one block keeps, ascending."""

    groups: tuple[int, ...]
    neurons: tuple[int, ...]

    def count(self, unit: Unit) -> int:
        return len(self.groups if unit == "group" else self.neurons)

    def units(self, unit: Unit) -> tuple[int, ...]:
        return self.groups if unit == "group" else self.neurons


@dataclass(frozen=True)
class Layout:
    """The prunable structure that all blocks of a model share."""

    groups: int
    queries: int  # query heads of a group
    head_dim: int
    neurons: int
    shapes: dict[str, tuple[int, ...]]  # parameters of a block, by name within the block
    cuts: tuple[Cut, ...]  # of attention and MLP
    attention_output: str  # module within the block whose input are the heads
    down: str  # module within the block whose input are the neurons
    transposed: bool  # whether weights are (in, out), as GPT-2 has them

    @property
    def input_axis(self) -> int:
        """The axis of a projection's weight that its input channels lie along."""
        return 0 if self.transposed else 1

    @property
    def cuts_groups(self) -> bool:
        """Whether groups can go at all: not where the family lays its heads out in another way."""
        return self.cost("group") > 0

    @property
    def norms_groups(self) -> bool:
        """Whether a norm runs over the channels of all groups together, as in OLMo 2."""
        return any(
            len(self.shapes[cut.name]) == 1 and not cut.name.endswith(".bias") and segment.unit == "group"
            for cut in self.cuts
            for segment in cut.segments
        )

    def units(self, unit: Unit) -> int:
        return self.groups if unit == "group" else self.neurons

    def index(self, cut: Cut, kept: Kept) -> Tensor:
        """Channels of the cut's axis that stay, in order."""
        parts, offset = [], 0
        for segment in cut.segments:
            units = torch.tensor(kept.units(segment.unit), dtype=torch.long)
            channels = units[:, None] * segment.width + torch.arange(segment.width)  # (kept units, width)
            parts.append(offset + channels.reshape(-1))
            offset += self.units(segment.unit) * segment.width
        return torch.cat(parts)

    def per_unit(self, cut: Cut, channels: Tensor) -> Iterator[tuple[Unit, Tensor]]:
        """Sums of a value per channel of the cut's axis, (channels,), over the channels of each unit, (units,)."""
        offset = 0
        for segment in cut.segments:
            count = self.units(segment.unit)
            stretch = channels[offset : offset + count * segment.width]
            yield segment.unit, stretch.view(count, segment.width).sum(1)
            offset += count * segment.width

    def cost(self, unit: Unit) -> int:
        """Parameters that one unit takes with it."""
        total = 0
        for cut in self.cuts:
            shape = self.shapes[cut.name]
            across = torch.Size(shape).numel() // shape[cut.axis]
            total += sum(segment.width * across for segment in cut.segments if segment.unit == unit)
        return total

    def shapes_of(self, groups: int, neurons: int) -> dict[str, tuple[int, ...]]:
        """Parameters of a block that keeps so many units."""
        shapes = dict(self.shapes)
        for cut in self.cuts:
            shape = list(shapes[cut.name])
            shape[cut.axis] = sum(
                segment.width * (groups if segment.unit == "group" else neurons) for segment in cut.segments
            )
            shapes[cut.name] = tuple(shape)
        return shapes


def layout_of(blocks: Sequence[nn.Module], config: PretrainedConfig, architecture: Architecture) -> Layout:
    """The layout of a model's blocks, which may be on the meta device.

    Raises:
        UnsupportedModel: mixtures of experts, blocks that differ in shape, and MLPs that are not found.
    """
    if "moe" in architecture.quirks:
        raise UnsupportedModel.field(
            "kind",
            "The model is a mixture of experts: width pruning judges neurons by tokens, and experts see few of them.",
            value=architecture.family,
            expected="a dense model, or depth pruning",
        )
    shapes = {name: tuple(parameter.shape) for name, parameter in blocks[0].named_parameters()}
    for number, block in enumerate(blocks):
        if {name: tuple(parameter.shape) for name, parameter in block.named_parameters()} != shapes:
            raise UnsupportedModel.field(
                "kind",
                f"Block {number} differs in shape from block 0; width pruning needs blocks of one shape.",
                value=architecture.family,
                expected="a model whose blocks are alike, or depth pruning",
            )
    transposed = any(isinstance(module, Conv1D) for module in blocks[0].modules())
    row, column = (1, 0) if transposed else (0, 1)  # output and input axis
    down = _join(architecture.mlp, architecture.down)
    cuts = list(_mlp_cuts(architecture, shapes, row))
    weight = shapes.get(f"{down}.weight")
    if weight is None or not cuts:
        raise UnsupportedModel.field(
            "kind",
            f"The MLP of a {architecture.family} block has no up- and down-projection that width pruning knows.",
            value=architecture.family,
        )
    cuts.append(Cut(f"{down}.weight", column, (Segment("neuron", 1),)))
    heads = int(config.num_attention_heads)
    groups = int(getattr(config, "num_key_value_heads", None) or heads)
    head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    attention = _attention_cuts(architecture, shapes, row, column, heads=heads, groups=groups, head_dim=head_dim)
    layout = Layout(
        groups=groups,
        queries=heads // groups,
        head_dim=head_dim,
        neurons=weight[column],
        shapes=shapes,
        cuts=(*attention, *cuts),
        attention_output=_join(architecture.attention, architecture.attention_output),
        down=down,
        transposed=transposed,
    )
    _check(layout, architecture)
    return layout


def _mlp_cuts(architecture: Architecture, shapes: dict[str, tuple[int, ...]], row: int) -> Iterator[Cut]:
    one = Segment("neuron", 1)
    parts = ((architecture.gate, 1), (architecture.up, 1), (architecture.fused_gate_up, 2))
    for name, times in parts:
        if name is not None:
            yield from _rows(_join(architecture.mlp, name), shapes, row, (one,) * times)


def _attention_cuts(
    architecture: Architecture,
    shapes: dict[str, tuple[int, ...]],
    row: int,
    column: int,
    *,
    heads: int,
    groups: int,
    head_dim: int,
) -> list[Cut]:
    """Cuts of queries, keys, values, their norms and the output; none where the heads are laid out otherwise."""
    if heads % groups or "interleaved_qkv" in architecture.quirks:
        return []
    query, key = Segment("group", heads // groups * head_dim), Segment("group", head_dim)
    output = _join(architecture.attention, architecture.attention_output)
    cuts = [Cut(f"{output}.weight", column, (query,))]
    for name, segments in (
        (architecture.query, (query,)),
        (architecture.key, (key,)),
        (architecture.value, (key,)),
        (architecture.fused_qkv, (query, key, key)),
    ):
        if name is not None:
            cuts += _rows(_join(architecture.attention, name), shapes, row, segments)
    cut = {cut.name for cut in cuts}
    for name, shape in shapes.items():  # norms over all channels of the queries or of the keys, as in OLMo 2
        inside = name.startswith(f"{architecture.attention}.") and not name.startswith(f"{output}.")
        if inside and name not in cut and shape == (heads * head_dim,):
            cuts.append(Cut(name, 0, (query,)))
        elif inside and name not in cut and shape == (groups * head_dim,):
            cuts.append(Cut(name, 0, (key,)))
    return cuts


def _rows(path: str, shapes: dict[str, tuple[int, ...]], row: int, segments: tuple[Segment, ...]) -> Iterator[Cut]:
    """The output channels of a projection, of its weight and of its bias if there is one."""
    if f"{path}.weight" in shapes:
        yield Cut(f"{path}.weight", row, segments)
    if f"{path}.bias" in shapes:
        yield Cut(f"{path}.bias", 0, segments)


def _check(layout: Layout, architecture: Architecture) -> None:
    """The segments must make up the axes, or the family is laid out in a way that is not known here."""
    if layout.shapes_of(layout.groups, layout.neurons) != layout.shapes:
        raise UnsupportedModel.field(
            "kind",
            f"The heads or neurons of a {architecture.family} block are not laid out in a way that is known.",
            value=architecture.family,
            expected="depth pruning, which does not look into blocks",
        )


def _join(module: str, child: str) -> str:
    return f"{module}.{child}" if module else child
