"""What sets one family's GGUF files apart: how its keys become a config, and its tensors weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from workers.engine.checkpoints.gguf.rope import rope_parameters
from workers.engine.checkpoints.gguf.rules import Rule
from workers.engine.checkpoints.gguf.source import Source


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture of llama.cpp."""

    config: Callable[[Source], dict[str, Any]]  # the values of config.json, `model_type` among them
    block: Mapping[str, Rule]  # by the weight's name within a block, without ".weight" or ".bias"
    outer: Mapping[str, Rule]  # by the weight's name outside the blocks
    layers: str = "model.layers"  # the blocks' place in the model
    # modules whose bias is 0 where no block of the file has one, since one switch of the config stands for several
    bias_may_be_zero: frozenset[str] = frozenset()


def sizes(source: Source, *, head_counts: tuple[int, int] | None = None) -> dict[str, Any]:
    """What nearly all families share: counts and widths, positions, and whether the head is the embedding.

    Args:
        head_counts: query heads and key-value heads, where the keys are not the same for all blocks.

    Raises:
        BadCheckpoint: a key is missing or no count, or the tensors do not bear it out.
    """
    return {
        "vocab_size": source.shape("token_embd.weight")[0],
        "hidden_size": source.whole("embedding_length"),
        "intermediate_size": source.whole("feed_forward_length"),
        "num_hidden_layers": block_count(source),
        "max_position_embeddings": positions(source),
        "tie_word_embeddings": is_tied(source),
        **heads(source, *(head_counts or _head_counts(source))),
    }


def positions(source: Source) -> int:
    """How many tokens the model holds, one at least."""
    found = source.whole("context_length")
    if found < 1:
        raise source.bad("the key 'context_length' is 0, and a model holds one token at least")
    return found


def block_count(source: Source) -> int:
    """The number of blocks, which the names of the tensors must bear out before anything is made of it."""
    count = source.whole("block_count")
    numbers = {name.split(".", 2)[1] for name in source.tensors if name.startswith("blk.")}
    if count < 1 or len(numbers) != count or not all(str(number) in numbers for number in range(len(numbers))):
        raise source.bad(f"block_count is {count}, and the tensors make up {len(numbers)} blocks")
    return count


def is_tied(source: Source) -> bool:
    """Whether the head is the embedding: no head is in the file, or the same again."""
    if "output.weight" not in source.tensors:
        return True
    head, embedding = source.tensors["output.weight"], source.tensors["token_embd.weight"]
    if (head.kind, head.shape) != (embedding.kind, embedding.shape) or "output.bias" in source.tensors:
        return False
    with source.header.path.open("rb") as left, source.header.path.open("rb") as right:
        left.seek(head.start)
        right.seek(embedding.start)
        done = 0
        while done < head.nbytes:
            step = min(1 << 20, head.nbytes - done)
            if left.read(step) != right.read(step):
                return False
            done += step
    source.read_tensors.add("output.weight")
    return True


def _head_counts(source: Source) -> tuple[int, int]:
    count = source.whole("attention.head_count")
    return count, source.whole("attention.head_count_kv", count)


def heads(source: Source, count: int, kv_heads: int) -> dict[str, Any]:
    """Query heads, key-value heads, and the size of each."""
    if count < 1 or kv_heads < 1 or count % kv_heads:
        raise source.bad(f"the model has {count} heads and {kv_heads} key-value heads, which is no multiple")
    size = source.whole("attention.key_length", source.whole("embedding_length") // count)
    values = source.whole("attention.value_length", size)
    if size != values:
        raise source.unsupported(f"heads have keys of {size} and values of {values} dimensions")
    return {"num_attention_heads": count, "num_key_value_heads": kv_heads, "head_dim": size}


def rope(source: Source, config: dict[str, Any], *kinds: str, partial: bool = False) -> dict[str, Any]:
    """`rope_parameters` of a family that rotates all dimensions of a head, or part of them where `partial`."""
    size = config["head_dim"]
    rotated = source.whole("rope.dimension_count", size)
    if not (0 < rotated <= size and rotated % 2 == 0) or (rotated != size and not partial):
        raise source.unsupported(f"{rotated} of {size} dimensions of a head are rotated")
    found = rope_parameters(source, size=rotated, context=config["max_position_embeddings"], kinds=kinds)
    return {**found, "partial_rotary_factor": rotated / size} if partial else found


def plain_head(source: Source, config: dict[str, Any]) -> dict[str, Any]:
    """The config of a family whose heads always share the hidden size evenly, which therefore names no size."""
    if config["head_dim"] * config["num_attention_heads"] != config["hidden_size"]:
        raise source.unsupported(
            f"{config['num_attention_heads']} heads of {config['head_dim']} do not make up the hidden size of "
            f"{config['hidden_size']}"
        )
    return {key: value for key, value in config.items() if key != "head_dim"}


def no_window(source: Source, context: int) -> None:
    """Refuse a sliding window within the context, in a family that has none."""
    window = source.whole("attention.sliding_window", 0)
    if 0 < window < context:
        raise source.unsupported(
            f"attention has a sliding window of {window}, which {source.architecture} has not here"
        )
