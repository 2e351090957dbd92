"""Where the halves of a family's blocks are: what goes with the attention or the MLP, and what must stay.

An attention is a module, and so is an MLP, or else it lies between two projections. What a norm serves is not told by
its name: of Gemma 2's four norms two belong to each half, GPT-NeoX's parallel halves have one each, those of Falcon
share one, and OPT-350M norms the whole stream. So it is found out: one block without the half is run on the meta
device, where a norm that nothing comes into, or nothing comes out of, shows itself. Whatever does not run that way is
refused.

Of a quantised checkpoint the same is found on the model that it was quantised from. Its tensors are named by the
modules whose weights they make up (`mlp.up_proj.qweight`), so they go with the module.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from transformers import PreTrainedModel

from secateur.contract.errors import FieldError, UnsupportedModel
from secateur.contract.models.architecture import Architecture
from secateur.contract.models.quantised import quantised_by
from secateur.foreign_files.json_objects import quoted
from workers.engine.architectures.config import as_config, one_line
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.block_names import block_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.modeling_secateur import remove_half
from workers.engine.checkpoints.names_on_disk import recipes_of, shapes_of
from workers.engine.model.block_calls import Call
from workers.engine.model.block_model import BlockModel, InMemory
from workers.engine.model.reduced_blocks import HALVES_OF_A_BLOCK, Half
from workers.engine.model.streaming import empty_model
from workers.engine.pruning.depth import stack_of
from workers.engine.pruning.depth_config import QUANTIZER_KEYS

_TOKENS = 3
_DTYPE = torch.bfloat16  # of which alone the meta device has the grouped products of experts
_NORM = re.compile(r"norm|^ln_", re.I)


@dataclass(frozen=True)
class HalfLayout:
    """One half of a block, as `modeling_secateur.py` takes it out; paths of modules are relative to the block."""

    silent: str  # the module whose output joins the state
    passed: tuple[str, ...]  # those that serve the half alone
    entries: int  # of the tuple that the silent module returns; 0 where it returns the bare tensor
    width: int

    def to_dict(self) -> dict[str, Any]:
        """As config.json has it."""
        return {"silent": self.silent, "passed": list(self.passed), "entries": self.entries, "width": self.width}

    def holds(self, name: str) -> bool:
        """Whether the parameter called `name` within the block goes with the half."""
        return any(name.startswith(f"{module}.") for module in (self.silent, *self.passed))


@dataclass(frozen=True)
class HalvesLayout:
    """The halves of every block of a checkpoint, and what lies where on disk."""

    architecture: Architecture
    halves: Mapping[Half, HalfLayout]
    parameters: tuple[Mapping[str, int], ...]  # of each block: name within the block → numbers in it
    stored: Mapping[str, tuple[int, str]]  # name on disk → block, and the name within it that it makes

    def removed_parameters(self, block: int, half: Half) -> int:
        """How many parameters go with a half."""
        return sum(size for name, size in self.parameters[block].items() if self.halves[half].holds(name))


def halves_layout(checkpoint: Checkpoint) -> HalvesLayout:
    """Find the halves of the blocks of `checkpoint`; no weights are read.

    Raises:
        UnsupportedModel: the halves were not found by structure, or the tensors of a quantised model are not named by
            its modules.
    """
    architecture = architecture_of(checkpoint.config)
    plain = {key: value for key, value in checkpoint.config.items() if key not in QUANTIZER_KEYS}
    model = empty_model(as_config(plain), _DTYPE)
    blocks = list(model.get_submodule(architecture.blocks_prefix).children())
    if quantised_by(checkpoint.config) is None:
        stored = _stored(checkpoint, model, architecture)
    else:
        stored = {}
        _check_names(checkpoint, blocks[0], architecture)
    return HalvesLayout(
        architecture=architecture,
        halves=_halves(json.dumps(plain)),
        parameters=tuple({name: value.numel() for name, value in block.named_parameters()} for block in blocks),
        stored=stored,
    )


@lru_cache(maxsize=8)  # a stage asks before its search and after it
def _halves(config: str) -> Mapping[Half, HalfLayout]:
    """The halves of the blocks of the model that this JSON describes."""
    plain = json.loads(config)
    architecture = architecture_of(plain)
    model = empty_model(as_config(plain), _DTYPE)
    blocks = list(model.get_submodule(architecture.blocks_prefix).children())
    for name, parameter in model.named_parameters():
        if not name.startswith(f"{architecture.blocks_prefix}."):
            _hollow(model, name, parameter)
    view = BlockModel(model, architecture, InMemory(blocks))
    call = view.calls(1, _TOKENS)[0]
    probe = _Probe(blocks[0], Call(*_on_meta((call.args, call.kwargs))), view.hidden_size, architecture)
    halves = {half: probe.find(half) for half in HALVES_OF_A_BLOCK}
    probe.check_nothing_else(halves.values())
    return halves


def _refused(architecture: Architecture, reason: str) -> UnsupportedModel:
    expected = "a family whose attention and MLP are found by structure, or pruning of whole blocks"
    return UnsupportedModel(reason, errors=[FieldError("kind", reason, architecture.family, expected)])


def _stored(checkpoint: Checkpoint, model: PreTrainedModel, architecture: Architecture) -> dict[str, tuple[int, str]]:
    """Of each tensor on disk that belongs to a block, which parameter it makes, or helps to make."""
    prefix = f"{architecture.blocks_prefix}."
    found = {}
    for recipe in recipes_of(checkpoint, model, shapes_of(model)):
        if recipe.target.startswith(prefix):
            number, _, name = recipe.target.removeprefix(prefix).partition(".")
            found.update({source: (int(number), name) for _, source in recipe.sources})
    return found


def _check_names(checkpoint: Checkpoint, block: nn.Module, architecture: Architecture) -> None:
    """Raise UnsupportedModel if the name of a block's tensor does not begin with one of the block's modules."""
    children = {name for name, _ in block.named_children()}
    prefix, _ = stack_of(checkpoint, architecture)
    for name in checkpoint.names():
        number = block_of(name, prefix)
        if number is not None and name.removeprefix(f"{prefix}{number}.").partition(".")[0] not in children:
            raise _refused(
                architecture,
                f"The checkpoint is quantised, and its tensor {quoted(name)} is not named by a module of "
                f"{architecture.family}, so it is not known with which half of the block it goes.",
            )


def _hollow(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Make a parameter of zeros that takes no memory: the embedding must run to call the blocks."""
    path, _, last = name.rpartition(".")
    zeros = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
    model.get_submodule(path)._parameters[last] = nn.Parameter(zeros, requires_grad=False)


def _on_meta(value: Any) -> Any:
    return tree_map(lambda item: item.to("meta") if isinstance(item, Tensor) else item, value)


class _Probe:
    """One block on the meta device, run with and without its halves."""

    def __init__(self, block: nn.Module, call: Call, width: int, architecture: Architecture) -> None:
        self._block, self._call, self._width, self._architecture = block, call, width, architecture

    def find(self, half: Half) -> HalfLayout:
        silent, between = self._modules(half)
        returned = self._watch(self._block, [silent])[silent].output
        entries = len(returned) if isinstance(returned, tuple) else 0
        if not isinstance(returned[0] if entries else returned, Tensor):
            raise self._not_found(half, f"{silent} does not return a tensor")
        bare = HalfLayout(silent, between, entries, self._width)
        other = self._modules("mlp" if half == "attention" else "attention")
        norms = [
            name
            for name, child in self._block.named_children()
            if _is_norm(name, child) and name not in (silent, *between, other[0], *other[1])
        ]
        seen = self._watch(self._without(bare), norms)
        idle = tuple(name for name in norms if name in seen and seen[name].idle(self._block.get_submodule(name)))
        found = HalfLayout(silent, (*between, *idle), entries, self._width)
        self._watch(self._without(found), [])
        return found

    def check_nothing_else(self, halves: Iterable[HalfLayout]) -> None:
        """Raise UnsupportedModel if a block has matrices beside its two halves."""
        for name, value in self._block.named_parameters():
            if value.dim() > 1 and not any(half.holds(name) for half in halves):
                raise self._not_found(None, f"{name} belongs to neither")

    def _modules(self, half: Half) -> tuple[str, tuple[str, ...]]:
        """The module that a half ends in, and the projections before it where the half is no module of its own."""
        row = self._architecture
        if half == "attention":
            return row.attention, ()
        if row.mlp:
            return row.mlp, ()
        if not row.down or not row.up:
            raise self._not_found(half, "its projections have no usual names")
        return row.down, tuple(name for name in (row.gate, row.up, row.fused_gate_up) if name)

    def _without(self, half: HalfLayout) -> nn.Module:
        block = copy.deepcopy(self._block)
        remove_half(block, 0, half.to_dict())
        return block

    def _watch(self, block: nn.Module, names: Iterable[str]) -> dict[str, _Seen]:
        """Run forward and backward, and note what passes through the modules `names`."""
        seen: dict[str, _Seen] = {}
        handles = [block.get_submodule(name).register_forward_hook(_note(seen, name)) for name in names]
        state = torch.zeros(1, _TOKENS, self._width, device="meta", dtype=_DTYPE, requires_grad=True)
        try:
            with torch.enable_grad():
                for parameter in block.parameters():
                    parameter.requires_grad_(True)
                out = block(state, *self._call.args, **self._call.kwargs)
                out = out[0] if isinstance(out, tuple) else out
                if out.shape != state.shape:
                    raise RuntimeError(f"the block returns the shape {tuple(out.shape)}")
                out.sum().backward()
        except Exception as error:  # whatever a family's code raises on what is no block with two halves
            raise self._not_found(None, one_line(error)) from error
        finally:
            for handle in handles:
                handle.remove()
        for name, found in seen.items():
            found.used = any(value.grad is not None for value in block.get_submodule(name).parameters())
        return seen

    def _not_found(self, half: Half | None, why: str) -> UnsupportedModel:
        what = f"The {half} in a block" if half else "The halves of a block"
        return _refused(self._architecture, f"{what} of {self._architecture.family} could not be told apart: {why}.")


@dataclass
class _Seen:
    """What passed through a module."""

    fed: bool  # whether the state before the block comes into it
    output: Any
    used: bool = True  # whether something comes of its output

    def idle(self, norm: nn.Module) -> bool:
        """Whether the block is the same without this norm; one with a bias gives that bias even for zeros."""
        return not self.used or (not self.fed and getattr(norm, "bias", None) is None)


def _note(seen: dict[str, _Seen], name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        fed = any(isinstance(value, Tensor) and value.requires_grad for value in args)
        seen[name] = _Seen(fed, output)

    return hook


def _is_norm(name: str, module: nn.Module) -> bool:
    parameters = list(cast(Any, module).parameters())
    return bool(_NORM.search(name + type(module).__name__)) and all(value.dim() == 1 for value in parameters)
