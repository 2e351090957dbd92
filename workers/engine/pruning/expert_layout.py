"""Where a model keeps its experts, in memory and on disk, and the config of the same model with fewer.

No family is named here. In memory every mixture is a module `experts` with stacked weights, and beside it a router: a
module with a row of weights for each expert, which gives logits, gates and the numbers of the chosen experts. Whatever
routes otherwise, or chooses among groups of experts, is refused. On disk experts lie one by one or stacked; the rules
by which transformers reads them tell which. The config with fewer experts is built without weights and must give the
shapes that are written.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.contract.errors import BadCheckpoint, UnsupportedModel
from secateur.contract.models.architecture import Architecture
from secateur.contract.models.mixtures import EXPERT_COUNTS, no_experts
from workers.engine.architectures.config import as_config, model_entries
from workers.engine.architectures.discovery import skeleton
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.block_names import block_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.names_on_disk import Recipe, recipes_of, shapes_of

# What families call the number of experts that a token goes to.
_PER_TOKEN = ("num_experts_per_tok", "experts_per_token", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k")
_GROUPS = ("n_group", "num_expert_group", "n_groups")  # of experts, among which a router chooses first
_NUMBER = re.compile(r"\.experts\.(\d+)\.")


@dataclass(frozen=True)
class Mixture:
    """The mixture of one block; paths of modules are relative to the block."""

    experts: str
    router: str
    rows: tuple[str, ...]  # parameters and buffers of the two with an entry for each expert, relative to the block


@dataclass(frozen=True)
class ExpertLayout:
    architecture: Architecture
    config: Mapping[str, Any]  # as in config.json
    mixtures: Mapping[int, Mixture]  # by block; dense blocks have none
    count: int  # experts of each mixture
    per_token: int  # experts that a token goes to
    stacked: Mapping[str, int]  # tensors on disk with an entry for each expert → their block
    single: Mapping[str, tuple[int, int]]  # tensors on disk of one expert → its block and number

    def new_name(self, name: str, kept: Mapping[int, Sequence[int]]) -> str | None:
        """What a tensor on disk is called once these experts of each block are left; None where it goes."""
        if name not in self.single:
            return name
        block, expert = self.single[name]
        if expert not in kept[block]:
            return None
        return _NUMBER.sub(f".experts.{kept[block].index(expert)}.", name)

    def rows(self, name: str, kept: Mapping[int, Sequence[int]]) -> Sequence[int] | None:
        """Which entries of a tensor on disk are left; None for all."""
        return kept[self.stacked[name]] if name in self.stacked else None

    def narrowed(self, left: int) -> dict[str, Any]:
        """`config.json` of the model with `left` experts in each mixture.

        Raises:
            UnsupportedModel: no entry of the config sets the number of experts alone.
        """
        full = as_config(dict(self.config)).to_dict()
        result = copy.deepcopy(model_entries(self.config))
        per_token = min(self.per_token, left)
        for keys, before, after in ((EXPERT_COUNTS, self.count, left), (_PER_TOKEN, self.per_token, per_token)):
            result.update({key: after for key in keys if result.get(key, full.get(key)) == before})
        if not self._is_built_by(result, left, per_token):
            raise UnsupportedModel.field(
                "kind",
                f"No entry of a {self.config.get('model_type')} config sets the number of experts alone.",
                value=self.config.get("model_type"),
                expected="depth or sub_block",
            )
        return result

    def smaller_routers(self) -> dict[int, nn.Module]:
        """The routers of the model with one expert fewer, by block, without weights. Raises as `narrowed`."""
        model = skeleton(as_config(self.narrowed(self.count - 1)))
        blocks = model.get_submodule(self.architecture.blocks_prefix)
        return {block: blocks.get_submodule(f"{block}.{mixture.router}") for block, mixture in self.mixtures.items()}

    def _is_built_by(self, config: dict[str, Any], left: int, per_token: int) -> bool:
        """Whether the model of `config` has the shapes that are written, and sends a token to so many experts."""
        before, after = skeleton(as_config(dict(self.config))), skeleton(as_config(config))
        prefix = self.architecture.blocks_prefix
        cut = {f"{prefix}.{block}.{name}" for block, mixture in self.mixtures.items() for name in mixture.rows}
        wanted = {name: (left, *shape[1:]) if name in cut else shape for name, shape in shapes_of(before).items()}
        blocks = after.get_submodule(prefix)
        return shapes_of(after) == wanted and all(
            _chosen(blocks.get_submodule(f"{block}.{mixture.router}")) == per_token
            for block, mixture in self.mixtures.items()
        )


def expert_layout(checkpoint: Checkpoint) -> ExpertLayout:
    """Where this checkpoint has its experts, from its config and headers alone.

    Raises:
        UnsupportedModel: it has none, its mixtures differ in size, or they or their files are of an unknown form.
    """
    architecture = architecture_of(checkpoint.config)
    config = as_config(checkpoint.config)
    model = skeleton(config)
    blocks = list(model.get_submodule(architecture.blocks_prefix).children())
    found = {number: mixture for number, block in enumerate(blocks) if (mixture := _mixture(block)) is not None}
    if not found:
        raise no_experts(checkpoint.config, pointer="kind")
    grouped = next((key for key in _GROUPS if (getattr(config, key, None) or 1) > 1), None)
    if grouped is not None:
        raise _unknown(f"its router chooses among groups of experts first ({grouped})")
    counts = {_experts(blocks[number].get_submodule(mixture.experts)) for number, mixture in found.items()}
    chosen = {_chosen(blocks[number].get_submodule(mixture.router)) for number, mixture in found.items()}
    if len(counts) > 1 or len(chosen) > 1:
        raise _unknown("its mixtures differ in size")
    count, prefix = counts.pop(), architecture.blocks_prefix
    cut = {f"{prefix}.{number}.{name}" for number, mixture in found.items() for name in mixture.rows}
    stacked: dict[str, int] = {}
    single: dict[str, tuple[int, int]] = {}
    for recipe in recipes_of(checkpoint, model, shapes_of(model)):
        if cut.isdisjoint(recipe.targets()):
            continue
        block = block_of(recipe.target, f"{prefix}.")
        assert block is not None  # it is one of a block's
        if all(_NUMBER.search(name) for _, name in recipe.sources):
            single.update({name: (block, number) for name, number in _numbers(recipe, count)})
        elif all(checkpoint.shape(name)[:1] == (count,) for _, name in recipe.sources):
            stacked.update({name: block for _, name in recipe.sources})
        else:
            raise _unknown(f"{recipe.sources[0][1]} has not one entry for each expert")
    return ExpertLayout(architecture, checkpoint.config, found, count, chosen.pop(), stacked, single)


def _mixture(block: nn.Module) -> Mixture | None:
    """The mixture of a block; None of a dense one. Raises UnsupportedModel."""
    paths = [name for name, _ in block.named_modules() if name.rpartition(".")[2] == "experts"]
    if not paths:
        return None
    experts, parent = paths[0], paths[0].rpartition(".")[0]
    count = _experts(block.get_submodule(experts))
    routers = [
        f"{parent}.{name}".lstrip(".")
        for name, child in block.get_submodule(parent).named_children()
        if name != "experts" and (weight := getattr(child, "weight", None)) is not None and weight.shape[0] == count
    ]
    if len(paths) > 1 or len(routers) != 1:
        raise _unknown(f"a block has {len(paths)} sets of experts and {len(routers)} routers")
    rows = [
        f"{path}.{name}"
        for path in (experts, routers[0])
        for name, tensor in block.get_submodule(path).state_dict(keep_vars=True).items()
        if tensor.dim() and tensor.shape[0] == count
    ]
    return Mixture(experts, routers[0], tuple(rows))


def _experts(module: nn.Module) -> int:
    """How many experts are stacked in the module. Raises UnsupportedModel."""
    counts = {parameter.shape[0] for parameter in module.parameters(recurse=False) if parameter.dim() == 3}
    if len(counts) != 1:
        raise _unknown("its experts are not stacked weights")
    return counts.pop()


def _chosen(router: nn.Module) -> int:
    """How many experts the router sends a token to. Raises UnsupportedModel."""
    weight = router.get_parameter("weight")
    try:
        given: Any = router(torch.empty((1, weight.shape[-1]), dtype=weight.dtype, device=weight.device))
    except Exception:  # whatever a forward raises that wants more than states
        given = None
    if not (
        isinstance(given, tuple) and len(given) == 3 and _are_numbers(given[2]) and given[1].shape == given[2].shape
    ):
        raise _unknown("its router does not give logits, gates and numbers of experts")
    return int(given[2].shape[-1])


def _are_numbers(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.int32, torch.int64) and value.dim() == 2


def _numbers(recipe: Recipe, count: int) -> Iterable[tuple[str, int]]:
    """Tensors that hold one expert each, and which. Raises BadCheckpoint."""
    by_pattern: dict[str, list[tuple[str, int]]] = {}
    for pattern, name in recipe.sources:
        match = _NUMBER.search(name)
        assert match is not None  # asked before
        by_pattern.setdefault(pattern, []).append((name, int(match[1])))
    for found in by_pattern.values():
        if [number for _, number in found] != list(range(count)):
            raise BadCheckpoint(f"{found[0][0]} and those beside it are not of the experts 0 to {count - 1}.")
        yield from found


def _unknown(why: str) -> UnsupportedModel:
    return UnsupportedModel.field(
        "kind",
        f"The experts of this model cannot be told apart: {why}.",
        expected="a mixture whose experts are stacked weights beside one router, or depth or sub_block",
    )
