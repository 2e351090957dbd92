"""The config of the model in a GGUF file, as far as its sizes go: from its keys and its table of tensors.

The stage imports the file and reads everything (`workers/engine/checkpoints/gguf/`); here are the sizes that an
estimate needs. Where the formula of the family does not make up exactly the tensors of the file, no config is given.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from app.services.gguf_keys import read_keys, read_text
from secateur.contract.errors import InvalidInput
from secateur.contract.models.parameters import parameter_count

MAX_TENSORS = 1 << 17
# llama.cpp's architectures and the `model_type` whose sizes they have; those that are not here have no formula.
_TYPES = {
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "gpt2": "gpt2",
    "granite": "granite",
    "llama": "llama",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen2moe": "qwen2_moe",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe",
    "stablelm": "stablelm",
}
_NO_PARAMETERS = ("rope_freqs.", "rope_factors_")  # tensors that transformers computes from the config
# Keys of the file, which begin with the architecture, and the config's entries.
_SIZES = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}


@dataclass(frozen=True)
class GgufFile:
    """What an estimate takes from a file's head."""

    config: dict[str, Any]
    block_bytes: tuple[int, ...]  # of the tensors of each block, as they lie in the file
    bytes: int  # of the whole file


def gguf_file(path: Path) -> GgufFile | None:
    """The sizes of the model in a file; None where its head does not tell, or not of what its tensors are."""
    try:
        with path.open("rb") as file:
            keys, tensors = read_keys(file), list(_tensors(file))
        config = _config(keys, {tensor.name: tensor.shape for tensor in tensors})
        if config is None:
            return None
        count = parameter_count(config)
        parameters = sum(math.prod(tensor.shape) for tensor in tensors if not tensor.name.startswith(_NO_PARAMETERS))
        if count is None or count.total != parameters:
            return None
        size = path.stat().st_size
        return GgufFile(config, _bytes_of_blocks(tensors, size, len(count.blocks)), size)
    except (OSError, EOFError, struct.error, LookupError, InvalidInput, ValueError):
        return None


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    offset: int


def _tensors(file: BinaryIO) -> Iterator[_Tensor]:
    """The table behind the keys, at whose end the file stands."""
    at = file.tell()
    file.seek(8)
    (count,) = struct.unpack("<Q", file.read(8))
    file.seek(at)
    for _ in range(min(count, MAX_TENSORS)):
        name = read_text(file)
        (dimensions,) = struct.unpack("<I", file.read(4))
        if dimensions > 8:
            raise ValueError("no tensor has so many dimensions")
        shape = struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions))
        _, offset = struct.unpack("<IQ", file.read(12))
        yield _Tensor(name, shape, offset)


def _bytes_of_blocks(tensors: list[_Tensor], size: int, blocks: int) -> tuple[int, ...]:
    """A tensor ends where the next begins, but for some bytes of padding."""
    ordered = sorted(tensors, key=lambda tensor: tensor.offset)
    ends = [tensor.offset for tensor in ordered[1:]] + [max(ordered[-1].offset, size)]
    sums = [0] * blocks
    for tensor, end in zip(ordered, ends, strict=True):
        if tensor.name.startswith("blk.") and tensor is not ordered[-1]:
            sums[int(tensor.name.split(".")[1])] += end - tensor.offset
    return tuple(sums)


def _config(keys: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    architecture = keys.get("general.architecture")
    model_type = _TYPES.get(str(architecture))
    if model_type is None or "token_embd.weight" not in shapes:
        return None
    values = {entry: keys.get(f"{architecture}.{key}") for key, entry in _SIZES.items()}
    config: dict[str, Any] = {entry: value for entry, value in values.items() if type(value) is int}
    if config.get("num_experts") and model_type == "llama":
        model_type = "mixtral"
    if not config.get("num_experts"):
        config.pop("num_experts", None)
    config["model_type"] = model_type
    config["vocab_size"] = shapes["token_embd.weight"][1]
    config["tie_word_embeddings"] = "output.weight" not in shapes
    if model_type == "gpt2":
        config |= {"n_embd": config["hidden_size"], "n_layer": config["num_hidden_layers"]}
        config |= {"n_inner": config["intermediate_size"], "n_positions": shapes["position_embd.weight"][1]}
        config["n_head"] = config["num_attention_heads"]
    config["attention_bias"] = any(f"blk.0.attn_{part}.bias" in shapes for part in ("q", "k", "v", "output"))
    config["qkv_bias"] = config["use_qkv_bias"] = "blk.0.attn_q.bias" in shapes
    config["mlp_bias"] = any(f"blk.0.ffn_{part}.bias" in shapes for part in ("gate", "up", "down"))
    config["use_parallel_residual"] = "blk.0.ffn_norm.weight" not in shapes
    config["qk_layernorm"] = "blk.0.attn_q_norm.weight" in shapes
    return config
