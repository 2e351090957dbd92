"""Whether healing holds for a model, from its config alone: before a text is read or a block is walked.

Healing folds a map into a down-projection, so what that projection makes must reach the state as it is, up to a factor.
The model is run without weights, and the operations between the projection's output and the block's are read off the
graph of gradients: additions and factors keep a map, a norm does not. The walk itself tests the same on real states.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.pytorch_utils import Conv1D

from secateur.contract.errors import UnsupportedModel
from workers.engine.architectures.discovery import skeleton
from workers.engine.architectures.registry import architecture_of
from workers.engine.recovery.healing_maps import down_path

# What may stand between: beginnings of the names of autograd's nodes.
_KEEPS = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "View",
    "UnsafeView",
    "Reshape",
    "Clone",
    "ToCopy",
    "Transpose",
    "Permute",
    "Slice",
)


def refuse_unhealable(config: PretrainedConfig, *, before: Collection[int] | None = None) -> None:
    """Raise UnsupportedModel, over `healed`, if no map can be folded into the blocks that stand before a cut.

    Args:
        before: their numbers; None where the cuts are not known yet, and any block may stand before one.
    """
    architecture = architecture_of(config)
    model = skeleton(config)
    blocks = list(model.get_submodule(architecture.blocks_prefix).children())
    reasons = _reasons(model, blocks, down_path(architecture))
    wanted = range(len(blocks)) if before is None else sorted(before)
    failing = [number for number in wanted if reasons[number]]
    if failing:
        number, reason = failing[0], reasons[failing[0]]
        raise UnsupportedModel.field(
            "healed",
            f"Healing does not hold for this {architecture.family} model: block {number} {reason}.",
            value=config.model_type,
            expected="a family whose blocks add the output of one down-projection to the state, or another recovery",
        )


def _reasons(model: Any, blocks: list[nn.Module], path: str) -> list[str | None]:
    """Why each block cannot be healed; None where it can, or where only the walk can tell."""
    made: dict[int, Tensor] = {}
    left: dict[int, Tensor] = {}
    reasons: list[str | None] = [None] * len(blocks)
    handles = []

    def keep(store: dict[int, Tensor], number: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            store[number] = output[0] if isinstance(output, tuple) else output

        return hook

    for number, block in enumerate(blocks):
        down = _module(block, path)
        if not isinstance(down, nn.Linear | Conv1D):
            reasons[number] = "has no single down-projection"
            continue
        handles.append(down.register_forward_hook(keep(made, number)))
        handles.append(block.register_forward_hook(keep(left, number)))
    try:
        with torch.enable_grad():
            ids = torch.zeros((1, 3), dtype=torch.long, device="meta")
            mask = torch.zeros((1, 1, 3, 3), device="meta")  # whole, so that none is made from values
            model.train(False)(input_ids=ids, attention_mask=mask, use_cache=False)
    except Exception as error:  # a family that looks at values, which are not there: the walk tells
        logging.getLogger(__name__).debug("the skeleton was run in part: %s", error)
    finally:
        for handle in handles:
            handle.remove()
    for number in made.keys() & left.keys():
        between = _between(left[number].grad_fn, made[number].grad_fn)
        if between is None or any(not name.startswith(_KEEPS) for name in between):
            reasons[number] = "puts something between the output of its down-projection and the state, such as a norm"
    return reasons


def _module(block: nn.Module, path: str) -> nn.Module | None:
    try:
        return block.get_submodule(path)
    except AttributeError:
        return None


def _between(end: Any, start: Any) -> set[str] | None:
    """Names of the nodes on every way from `start`, which is left out, to `end`; None where there is no way."""
    reaches: dict[Any, bool] = {start: True}
    waiting = [end]
    while waiting:
        node = waiting[-1]
        following = [found for found, _ in node.next_functions if found is not None]
        unknown = [found for found in following if found not in reaches]
        if node in reaches or not unknown:
            reaches.setdefault(node, any(reaches[found] for found in following))
            waiting.pop()
        else:
            waiting += unknown
    if not reaches[end]:
        return None
    return {node.name() for node, found in reaches.items() if found and node is not start}
