"""The one table of model families: a row has all that is known of a family without looking at a model.

A family that is not here is found by structure, so a new decoder-only family of transformers usually needs no row; it
has none of what only a row tells: an estimate from the config alone, a file for llama.cpp, and which lists of the
config are per layer where the structure does not say. How GGUF files of a family are read stands with the reader, in
`workers/engine/checkpoints/gguf/`, since that is code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secateur.contract.models.architecture import Architecture
from secateur.contract.models.formulas import (
    FALCON,
    GPT2,
    GPT_NEOX,
    OPT,
    STABLELM,
    Formula,
    LlamaLike,
    Mixtral,
    QwenMoe,
)


@dataclass(frozen=True)
class Family:
    """One family of decoder-only models."""

    architecture: Architecture  # its names and where its modules are
    sizes: Formula
    gguf: str | None = None  # llama.cpp's name for it, where it is written as GGUF
    merges: float = 1.0  # of its tokenizers, for each token: those that came from SentencePiece have about two


FAMILIES: tuple[Family, ...] = (
    Family(
        Architecture("llama", ("llama",)),
        LlamaLike(qkv_bias="attention_bias", output_bias="attention_bias", mlp_bias="mlp_bias", heads_divide=True),
        gguf="llama",
    ),  # Llama 1 to 3, Vicuna, SmolLM 2
    Family(Architecture("mistral", ("mistral",)), LlamaLike(kv_heads=8), gguf="llama", merges=2.0),
    Family(
        Architecture("mixtral", ("mixtral",), gate=None, up=None, quirks=frozenset({"moe"})),
        Mixtral(kv_heads=8),
        gguf="llama",
        merges=2.0,
    ),
    Family(
        Architecture("gemma", ("gemma",)),
        LlamaLike(tied=True, kv_heads=16, head_dim=256, qkv_bias="attention_bias", output_bias="attention_bias"),
        gguf="gemma",
        merges=2.0,
    ),
    Family(
        Architecture("gemma2", ("gemma2",), per_layer_lists=("layer_types",), quirks=frozenset({"norm_after"})),
        LlamaLike(
            heads_divide=True,
            tied=True,
            kv_heads=4,
            head_dim=256,
            norms=4,
            qkv_bias="attention_bias",
            output_bias="attention_bias",
        ),
        gguf="gemma2",
        merges=2.0,
    ),
    Family(
        Architecture(
            "gemma3",
            ("gemma3_text",),
            per_layer_lists=("layer_types",),
            pattern_keys=("sliding_window_pattern", "_sliding_window_pattern"),
            quirks=frozenset({"norm_after"}),
        ),
        LlamaLike(
            heads_divide=True,
            tied=True,
            kv_heads=4,
            head_dim=256,
            norms=4,
            qkv_bias="attention_bias",
            output_bias="attention_bias",
            qk_norm="head",
        ),
        gguf="gemma3",
        merges=2.0,
    ),
    Family(
        Architecture("qwen2", ("qwen2",), per_layer_lists=("layer_types",), pattern_keys=("max_window_layers",)),
        LlamaLike(kv_heads=32, qkv_bias=True),
        gguf="qwen2",
    ),  # Qwen 2 and 2.5
    Family(
        Architecture("qwen3", ("qwen3",), per_layer_lists=("layer_types",), pattern_keys=("max_window_layers",)),
        LlamaLike(kv_heads=32, head_dim=128, qkv_bias="attention_bias", output_bias="attention_bias", qk_norm="head"),
        gguf="qwen3",
    ),
    Family(
        Architecture(
            "qwen2_moe",
            ("qwen2_moe",),
            per_layer_lists=("layer_types",),
            layer_index_lists=("mlp_only_layers",),
            pattern_keys=("max_window_layers", "decoder_sparse_step"),
            quirks=frozenset({"moe"}),
        ),
        QwenMoe(kv_heads=16, qkv_bias="qkv_bias", bias_default=True, shared_size=5632),
        gguf="qwen2moe",
    ),
    Family(
        Architecture(
            "qwen3_moe",
            ("qwen3_moe",),
            layer_index_lists=("mlp_only_layers",),
            pattern_keys=("max_window_layers", "decoder_sparse_step"),
            quirks=frozenset({"moe"}),
        ),
        QwenMoe(
            kv_heads=4,
            qkv_bias="attention_bias",
            output_bias="attention_bias",
            qk_norm="head",
            experts=128,
            expert_size=768,
        ),
        gguf="qwen3moe",
    ),
    Family(
        Architecture(
            "phi3",
            ("phi3",),
            query=None,
            key=None,
            value=None,
            fused_qkv="qkv_proj",
            gate=None,
            up=None,
            fused_gate_up="gate_up_proj",
            quirks=frozenset({"fused_qkv", "fused_gate_up"}),
        ),
        LlamaLike(),
    ),
    Family(
        Architecture("olmo2", ("olmo2",), quirks=frozenset({"norm_after"})),
        LlamaLike(qkv_bias="attention_bias", output_bias="attention_bias", qk_norm="all"),
    ),
    Family(
        Architecture(
            "gpt2",
            ("gpt2",),
            blocks_prefix="transformer.h",
            base_prefix="transformer",
            embeddings=("transformer.wte", "transformer.wpe"),
            final_norm="transformer.ln_f",
            layer_count_key="n_layer",
            attention="attn",
            query=None,
            key=None,
            value=None,
            fused_qkv="c_attn",
            attention_output="c_proj",
            gate=None,
            up="c_fc",
            down="c_proj",
            quirks=frozenset({"conv1d", "fused_qkv", "learned_positions"}),
        ),
        GPT2,
    ),
    Family(
        Architecture(
            "opt",
            ("opt",),
            blocks_prefix="model.decoder.layers",
            embeddings=("model.decoder.embed_tokens", "model.decoder.embed_positions"),
            final_norm="model.decoder.final_layer_norm",
            attention_output="out_proj",
            mlp="",
            gate=None,
            up="fc1",
            down="fc2",
            quirks=frozenset({"learned_positions"}),
        ),
        OPT,
    ),
    Family(
        Architecture(
            "gpt_neox",
            ("gpt_neox",),
            blocks_prefix="gpt_neox.layers",
            base_prefix="gpt_neox",
            embeddings=("gpt_neox.embed_in",),
            final_norm="gpt_neox.final_layer_norm",
            attention="attention",
            query=None,
            key=None,
            value=None,
            fused_qkv="query_key_value",
            attention_output="dense",
            gate=None,
            up="dense_h_to_4h",
            down="dense_4h_to_h",
            quirks=frozenset({"fused_qkv", "interleaved_qkv", "parallel_residual"}),
        ),
        GPT_NEOX,
    ),
    Family(
        Architecture(
            "smollm3",
            ("smollm3",),
            per_layer_lists=("no_rope_layers", "layer_types"),
            pattern_keys=("no_rope_layer_interval", "max_window_layers"),
        ),
        LlamaLike(tied=True, kv_heads=4, qkv_bias="attention_bias", output_bias="attention_bias", mlp_bias="mlp_bias"),
    ),
    Family(
        Architecture("granite", ("granite",)),
        LlamaLike(qkv_bias="attention_bias", output_bias="attention_bias", mlp_bias="mlp_bias"),
    ),
    Family(
        Architecture(
            "falcon",
            ("falcon",),
            blocks_prefix="transformer.h",
            base_prefix="transformer",
            embeddings=("transformer.word_embeddings",),
            final_norm="transformer.ln_f",
            attention="self_attention",
            query=None,
            key=None,
            value=None,
            fused_qkv="query_key_value",
            attention_output="dense",
            gate=None,
            up="dense_h_to_4h",
            down="dense_4h_to_h",
            quirks=frozenset({"fused_qkv", "interleaved_qkv", "parallel_residual"}),
        ),
        FALCON,
    ),
    Family(Architecture("stablelm", ("stablelm",), quirks=frozenset({"parallel_residual"})), STABLELM),
)

_BY_MODEL_TYPE: Mapping[str, Family] = {
    model_type: family for family in FAMILIES for model_type in family.architecture.model_types
}


def family_of(model_type: Any) -> Family | None:
    """The row of a config's `model_type`, or None where there is none."""
    return _BY_MODEL_TYPE.get(model_type) if isinstance(model_type, str) else None


def model_types(*, written_as_gguf: bool = False) -> tuple[str, ...]:
    """The values of `model_type` that have a row."""
    return tuple(name for name, family in _BY_MODEL_TYPE.items() if family.gguf is not None or not written_as_gguf)
