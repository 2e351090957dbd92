"""The matrices of a model's blocks by llama.cpp's names, from its config alone: what is quantised, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secateur.contract.models.config_reader import ConfigReader
from secateur.contract.models.families import family_of
from secateur.contract.models.formulas import LlamaLike, Mixtral, QwenMoe


@dataclass(frozen=True)
class Matrix:
    """One, or a stack of one for each expert."""

    name: str  # as in a GGUF file: "blk.3.attn_q.weight"
    shape: tuple[int, ...]  # rows first


def matrices_of(config: Mapping[str, Any]) -> list[Matrix] | None:
    """Those of the blocks, routers apart; None where the family's are laid out in a way of its own.

    Raises:
        BadCheckpoint: the config lacks a size.
    """
    family = family_of(config.get("model_type"))
    formula = family.sizes if family is not None else None
    if family is None or not isinstance(formula, LlamaLike):
        return None
    if family.architecture.quirks & {"fused_qkv", "fused_gate_up", "conv1d"}:
        return None
    reader = ConfigReader(config)
    found = []
    for number in range(reader.number("num_hidden_layers")):
        for part, shape in {**_attention(formula, reader), **_mlp(formula, reader, number)}.items():
            found.append(Matrix(f"blk.{number}.{part}.weight", shape))
    return found


def _attention(formula: LlamaLike, config: ConfigReader) -> dict[str, tuple[int, ...]]:
    hidden = config.number("hidden_size")
    heads, kv_heads, size = formula.heads(config)
    kept = kv_heads * size, hidden
    return {
        "attn_q": (heads * size, hidden),
        "attn_k": kept,
        "attn_v": kept,
        "attn_output": (hidden, heads * size),
    }


def _mlp(formula: LlamaLike, config: ConfigReader, block: int) -> dict[str, tuple[int, ...]]:
    experts, _ = formula.mixture(config, block)
    hidden, inner = config.number("hidden_size"), config.number("intermediate_size", default=0)
    if not experts:
        return _gated("", hidden, inner)
    if isinstance(formula, Mixtral):
        return _gated("_exps", hidden, inner, experts)
    assert isinstance(formula, QwenMoe), "there are no other mixtures"
    found = _gated("_exps", hidden, config.number("moe_intermediate_size", default=formula.expert_size), experts)
    if formula.shared_size is None:
        return found
    shared = config.number("shared_expert_intermediate_size", default=formula.shared_size)
    return {**found, **_gated("_shexp", hidden, shared)}


def _gated(end: str, hidden: int, inner: int, *stacked: int) -> dict[str, tuple[int, ...]]:
    up, down = (*stacked, inner, hidden), (*stacked, hidden, inner)
    return {f"ffn_gate{end}": up, f"ffn_up{end}": up, f"ffn_down{end}": down}
