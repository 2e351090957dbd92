"""The one table of model families, and the way from a config to its row.

A family that is not in the table is found by structure (`discovery.py`), so a new decoder-only family of
transformers usually needs no row. A row is worth writing where the structure does not tell something: which
lists of the config are per layer, or how a fused projection is laid out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import PretrainedConfig

from workers.engine.architectures.architecture import Architecture
from workers.engine.architectures.config import as_config, layer_count, refuse_unsupported
from workers.engine.architectures.discovery import discover, per_layer_lists

_FUSED_LLAMA_MLP = "gate_up_proj"

ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture("llama", ("llama",)),  # Llama 1 to 3, Vicuna, SmolLM 2
    Architecture("mistral", ("mistral",)),
    Architecture("mixtral", ("mixtral",), gate=None, up=None, quirks=frozenset({"moe"})),
    Architecture("gemma", ("gemma",)),
    Architecture("gemma2", ("gemma2",), per_layer_lists=("layer_types",), quirks=frozenset({"norm_after"})),
    Architecture(
        "gemma3",
        ("gemma3_text",),
        per_layer_lists=("layer_types",),
        pattern_keys=("sliding_window_pattern", "_sliding_window_pattern"),
        quirks=frozenset({"norm_after"}),
    ),
    Architecture(
        "qwen2", ("qwen2",), per_layer_lists=("layer_types",), pattern_keys=("max_window_layers",)
    ),  # Qwen 2 and 2.5
    Architecture("qwen3", ("qwen3",), per_layer_lists=("layer_types",), pattern_keys=("max_window_layers",)),
    Architecture(
        "qwen2_moe",
        ("qwen2_moe",),
        per_layer_lists=("layer_types",),
        layer_index_lists=("mlp_only_layers",),
        pattern_keys=("max_window_layers", "decoder_sparse_step"),
        quirks=frozenset({"moe"}),
    ),
    Architecture(
        "qwen3_moe",
        ("qwen3_moe",),
        layer_index_lists=("mlp_only_layers",),
        pattern_keys=("max_window_layers", "decoder_sparse_step"),
        quirks=frozenset({"moe"}),
    ),
    Architecture(
        "phi3",
        ("phi3",),
        query=None,
        key=None,
        value=None,
        fused_qkv="qkv_proj",
        gate=None,
        up=None,
        fused_gate_up=_FUSED_LLAMA_MLP,
        quirks=frozenset({"fused_qkv", "fused_gate_up"}),
    ),
    Architecture("olmo2", ("olmo2",), quirks=frozenset({"norm_after"})),
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
    Architecture(
        "smollm3",
        ("smollm3",),
        per_layer_lists=("no_rope_layers", "layer_types"),
        pattern_keys=("no_rope_layer_interval", "max_window_layers"),
    ),
    Architecture("granite", ("granite",)),
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
    Architecture("stablelm", ("stablelm",), quirks=frozenset({"parallel_residual"})),
)

_BY_MODEL_TYPE = {model_type: row for row in ARCHITECTURES for model_type in row.model_types}


def has_row(architecture: Architecture) -> bool:
    """Whether the family stands in the table, and was not found by structure."""
    return architecture.family in {row.family for row in ARCHITECTURES}


def architecture_of(config: dict[str, Any] | PretrainedConfig) -> Architecture:
    """The row of `config`'s family, with `per_layer_lists` as this very config has them.

    Needs no weights: an unknown family is built once on the meta device and found by structure.

    Raises:
        UnsupportedModel: the model is no decoder-only Transformer (encoder, encoder-decoder, state-space,
            vision …), or transformers does not know it; the reason is in the message.
    """
    loaded = as_config(config)
    refuse_unsupported(loaded)
    row = _BY_MODEL_TYPE.get(loaded.model_type)
    if row is None:
        return discover(loaded)
    written = config if isinstance(config, dict) else config.to_dict()
    lists = per_layer_lists(written, layer_count(loaded), extra=row.per_layer_lists)
    return replace(row, per_layer_lists=lists)
