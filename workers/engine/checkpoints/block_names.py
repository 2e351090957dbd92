"""Which tensors of a checkpoint belong to which Transformer block, seen from their names alone.

Families spell the stack differently (`model.layers.7.`, `transformer.h.7.`, `gpt_neox.layers.7.`), and old
checkpoints leave out the base model's prefix (`h.7.`), but the first number in a tensor's name is always the
block's. So the stack is found by structure; no family is named here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from secateur.contract.errors import BadCheckpoint

# "model.layers." and 7 of "model.layers.7.mlp.up_proj.weight"
_BLOCK = re.compile(r"^((?:[^.]+\.)*?)(\d{1,6})\.")
# Towers beside the language model, and multi-token-prediction heads, have numbered layers of their own.
_NOT_LANGUAGE = re.compile(r"(^|[._])(vision|visual|image|audio|speech|mtp)([._]|$)", re.IGNORECASE)
LAYER_COUNT_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config that describes the language model: itself, or its `text_config`."""
    nested = config.get("text_config")
    return nested if isinstance(nested, Mapping) else config


def layer_count(config: Mapping[str, Any]) -> int | None:
    """The number of blocks that a config claims, or None where it names none."""
    for part in (text_config(config), config):
        for key in LAYER_COUNT_KEYS:
            value = part.get(key)
            if type(value) is int:
                return value
    return None


def prefix_and_block(name: str) -> tuple[str, int] | None:
    """The prefix "model.layers." and 7 of "model.layers.7.mlp.up_proj.weight"; None of a name without a number."""
    match = _BLOCK.match(name)
    return (match[1], int(match[2])) if match else None


def block_of(name: str, prefix: str) -> int | None:
    """The block that the tensor belongs to, or None where it lies outside the stack at `prefix`."""
    match = _BLOCK.match(name)
    return int(match[2]) if match and match[1] == prefix else None


def in_a_stack(name: str) -> bool:
    """Whether the tensor belongs to a numbered layer of any stack."""
    return _BLOCK.match(name) is not None


def is_beside_language(name: str) -> bool:
    """Whether the name is one of a tower beside the language model, or of a multi-token-prediction head."""
    return _NOT_LANGUAGE.search(name) is not None


def block_stacks(names: Iterable[str]) -> dict[str, set[int]]:
    """Each prefix of numbered layers with the numbers that occur, the one with most tensors first.

    >>> block_stacks(["model.layers.0.a", "model.layers.1.a", "model.norm.weight"])
    {'model.layers.': {0, 1}}
    """
    numbers: dict[str, set[int]] = {}
    tensors: dict[str, int] = {}
    for name in names:
        match = _BLOCK.match(name)
        if match is None or _NOT_LANGUAGE.search(match[1]):
            continue
        numbers.setdefault(match[1], set()).add(int(match[2]))
        tensors[match[1]] = tensors.get(match[1], 0) + 1
    return {prefix: numbers[prefix] for prefix in sorted(numbers, key=lambda key: (-tensors[key], key))}


def check_layer_count(names: Iterable[str], config: Mapping[str, Any]) -> None:
    """Hold the config's layer count against the blocks that the tensors make up.

    Layers past the count are in order where the config announces that many multi-token-prediction layers,
    which some families store behind the blocks.

    Raises:
        BadCheckpoint: the two disagree, or a block is missing.
    """
    count = layer_count(config)
    stacks = block_stacks(names)
    if count is None or not stacks:
        return
    extra = text_config(config).get("num_nextn_predict_layers")
    allowed = {count, count + extra} if type(extra) is int and extra > 0 else {count}
    if any(numbers == set(range(size)) for numbers in stacks.values() for size in allowed):
        return
    prefix, numbers = next(iter(stacks.items()))
    missing = sorted(set(range(min(count, 10_000))) - numbers)
    if missing and max(numbers) >= count - 1:
        raise BadCheckpoint(f"config.json announces {count} blocks, and '{prefix}{missing[0]}.' has no tensors.")
    raise BadCheckpoint(
        f"config.json announces {count} blocks, and the tensors under '{prefix}' make up {max(numbers) + 1}."
    )
