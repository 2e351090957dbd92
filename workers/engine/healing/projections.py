"""The projections of a block that healing changes: how they are watched at work, and how a change is tried out.

A change in closed form is possible where what a projection makes reaches the state as it is, up to a factor (Granite
has one). That is tested on real states: the block is run with the projection silenced. A norm in between (Gemma 2 and
3, OLMo 2) or a mixture of experts in place of the MLP fails the test.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from transformers.pytorch_utils import Conv1D

from secateur.contract.models.architecture import Architecture
from workers.engine.model.block_model import Block

BlockChange = Mapping[str, Tensor]  # name of a parameter within a block → what is added to it, fp32 on the CPU
TOLERANCE = 1e-3  # of the mean square, for what passes as the same


@dataclass(frozen=True)
class Projection:
    """A linear map whose output reaches the state, times a factor."""

    path: str  # within the block
    factor: float
    turned: bool  # Conv1D: the weight is (in, out)
    biased: bool

    @property
    def parameters(self) -> tuple[str, ...]:
        """Their names within the block."""
        return (f"{self.path}.weight", f"{self.path}.bias") if self.biased else (f"{self.path}.weight",)

    def as_parameters(self, change: Tensor) -> dict[str, Tensor]:
        """A change of the map, (inputs, outputs), as that of its parameters; a bias has the last row."""
        weight = change[:-1] if self.biased else change
        found = {f"{self.path}.weight": (weight if self.turned else weight.T).contiguous()}
        if self.biased:
            found[f"{self.path}.bias"] = change[-1].clone()
        return found

    def inputs(self, seen: Seen) -> Tensor:
        """What the map took, times its factor, with a one for the bias: (tokens, inputs)."""
        x = seen.inputs.flatten(0, -2)
        if self.biased:
            x = torch.cat([x, x.new_ones((len(x), 1))], 1)
        return x if self.factor == 1 else self.factor * x

    def added(self, seen: Seen, like: Tensor) -> Tensor:
        """What the map added to the state, in the state's shape."""
        made = seen.output.view_as(like)  # OPT flattens its tokens
        return made if self.factor == 1 else self.factor * made


@dataclass
class Seen:
    """What went through one projection in the last run."""

    inputs: Tensor = field(default_factory=lambda: torch.empty(0))
    output: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True)
class Projections:
    """Those of one block that a closed form can change."""

    down: Projection | None  # of the MLP
    attention: Projection | None  # of the attention's output


def projections_of(block: Block, state: Tensor) -> Projections:
    """Find them by silencing each on a few states, (samples, tokens, hidden).

    That is done in fp32 whatever the model computes in: to bf16 what a projection adds is often within the rounding of
    the state that it is added to.
    """
    architecture = block.model.architecture
    with _in_fp32(block, state.shape[0], state.shape[1]) as run:
        down = _reaching(block, run, state.float(), down_path(architecture), beside=None)
        if down is None:
            return Projections(None, None)
        attention = _reaching(block, run, state.float(), attention_path(architecture), beside=down)
        return Projections(down, attention)


def last_projection(block: Block, state: Tensor, gone: Collection[str]) -> Projection | None:
    """What a block without the halves `gone` ends in, if a closed form can change it; the block runs without them."""
    path = attention_path if "mlp" in gone else down_path
    with _in_fp32(block, state.shape[0], state.shape[1]) as run:
        return _reaching(block, run, state.float(), path(block.model.architecture), beside=None)


@contextmanager
def _in_fp32(block: Block, samples: int, tokens: int) -> Iterator[Callable[[Tensor], Tensor]]:
    """For the length of the context the block's weights are fp32; gives what runs it on states of this shape."""
    call = block.model.calls(samples, tokens)[block.index]
    args, kwargs = tree_map(_wide, (call.args, call.kwargs))
    before = {name: parameter.data for name, parameter in block.module.named_parameters()}

    def run(state: Tensor) -> Tensor:
        out = block.module(state, *args, **kwargs)
        found: Tensor = out[0] if isinstance(out, tuple) else out
        return found

    try:
        for name, data in before.items():
            block.module.get_parameter(name).data = _wide(data)
        yield run
    finally:
        for name, data in before.items():
            block.module.get_parameter(name).data = data


def _wide(value: Any) -> Any:
    """A floating tensor in fp32; anything else as it is."""
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def down_path(architecture: Architecture) -> str:
    """The down-projection's name within a block."""
    return f"{architecture.mlp}.{architecture.down}" if architecture.mlp else architecture.down


def attention_path(architecture: Architecture) -> str:
    """The name of the attention's output projection within a block."""
    return f"{architecture.attention}.{architecture.attention_output}"


def _reaching(
    block: Block, run: Callable[[Tensor], Tensor], state: Tensor, path: str, *, beside: Projection | None
) -> Projection | None:
    """The projection, if its output reaches the state; `beside`: the MLP's, which works on what this one made."""
    module = module_at(block.module, path)
    if not isinstance(module, nn.Linear | Conv1D):
        return None
    paths = [path] if beside is None else [path, beside.path]
    without = []
    for silent in ((), (path,)):
        with watched(block.module, paths, silent=silent) as seen:
            whole = run(state)
        without.append(whole if beside is None else whole - beside.added(seen[beside.path], whole))
        if not silent:
            made = seen[path].output.view_as(whole)
    added = without[0] - without[1]
    factor = float((added * made).sum() / made.square().sum().clamp(min=1e-30))
    if (added - factor * made).square().mean() > TOLERANCE * added.square().mean():
        return None
    if abs(factor - 1) < TOLERANCE:
        factor = 1.0
    return Projection(path, factor, isinstance(module, Conv1D), module.bias is not None)


def module_at(block: nn.Module, path: str) -> nn.Module | None:
    try:
        return block.get_submodule(path)
    except AttributeError:
        return None


@contextmanager
def watched(block: nn.Module, paths: Collection[str], *, silent: Collection[str] = ()) -> Iterator[dict[str, Seen]]:
    """Record what goes through the projections while the block runs; those in `silent` give nothing."""
    seen = {path: Seen() for path in paths}

    def hook(path: str) -> Any:
        def record(_module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            # some families add to the output in place
            seen[path].inputs, seen[path].output = args[0], output.clone()
            return torch.zeros_like(output) if path in silent else None

        return record

    with ExitStack() as handles:
        for path in paths:
            handles.callback(block.get_submodule(path).register_forward_hook(hook(path)).remove)
        yield seen


def added(change: BlockChange, other: BlockChange) -> dict[str, Tensor]:
    """Both changes together."""
    return {**change, **{name: change[name] + more if name in change else more for name, more in other.items()}}


@contextmanager
def changed(block: nn.Module, change: BlockChange) -> Iterator[None]:
    """For the length of the context the block's parameters have the change added, rounded to their dtype."""
    before = {name: block.get_parameter(name).data for name in change}
    for name, data in before.items():
        block.get_parameter(name).data = (data.float() + change[name].to(data.device)).to(data.dtype)
    try:
        yield
    finally:
        for name, data in before.items():
            block.get_parameter(name).data = data
