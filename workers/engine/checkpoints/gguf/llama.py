"""Files of the architecture `llama`: Llama, Mistral, Mixtral, SmolLM and their like; `granite` and `deci` beside it.

A `deci` file is a Llama each of whose blocks has its own number of heads. Read are those whose blocks have the same
number or none, which is how this project writes a model that lost attentions.
"""

from __future__ import annotations

from typing import Any

from workers.engine.checkpoints.gguf.family import Family, block_count, no_window, rope, sizes
from workers.engine.checkpoints.gguf.rules import ATTENTION, EXPERTS, GATED, NORMS, OUTER, ROTATED
from workers.engine.checkpoints.gguf.source import Source
from workers.engine.checkpoints.own_loader import loader_config


def _llama(source: Source, head_counts: tuple[int, int] | None = None) -> dict[str, Any]:
    config = {**sizes(source, head_counts=head_counts), "rms_norm_eps": source.real("attention.layer_norm_rms_epsilon")}
    no_window(source, config["max_position_embeddings"])
    config["rope_parameters"] = rope(source, config, "linear", "yarn", "llama3", "longrope")
    config["attention_bias"] = any(source.any_tensor(f"attn_{part}.bias") for part in ("q", "k", "v", "output"))
    if source.whole("expert_count", 0):
        return _mixtral(source, config)
    config["mlp_bias"] = any(source.any_tensor(f"ffn_{part}.bias") for part in ("gate", "up", "down"))
    return {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **config}


def _mixtral(source: Source, config: dict[str, Any]) -> dict[str, Any]:
    experts, used = source.whole("expert_count"), source.whole("expert_used_count")
    if not 0 < used <= experts:
        raise source.bad(f"{used} of {experts} experts are used")
    if config.pop("attention_bias"):
        raise source.unsupported("the attention has biases and the MLP experts")
    return {
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        **config,
        "num_local_experts": experts,
        "num_experts_per_tok": used,
    }


def _deci(source: Source) -> dict[str, Any]:
    queries, keys = _per_block(source, "attention.head_count"), _per_block(source, "attention.head_count_kv")
    found = {pair for pair in zip(queries, keys, strict=True) if pair != (0, 0)}
    if len(found) != 1:
        raise source.unsupported("the blocks that have attention differ from each other in their heads")
    config = _llama(source, found.pop())
    if config["model_type"] != "llama":
        raise source.unsupported("some blocks have no attention, and all have experts")
    without = {str(number): ["attention"] for number, count in enumerate(queries) if count == 0}
    if not without:
        return config
    attention = {"silent": "self_attn", "passed": ["input_layernorm"], "entries": 2, "width": config["hidden_size"]}
    return loader_config(config, blocks="model.layers", halves={"attention": attention}, without=without)


def _per_block(source: Source, key: str) -> list[int]:
    """A count for each block.

    Raises:
        BadCheckpoint: there is none, or it is no list of counts as long as the model.
    """
    value, blocks = source.raw(f"{source.architecture}.{key}"), block_count(source)
    entries = value if isinstance(value, list) else [value] * blocks
    if len(entries) != blocks or not all(type(entry) is int and 0 <= entry < 1 << 31 for entry in entries):
        raise source.bad(f"the key {source.architecture}.{key} is no count for each of {blocks} blocks")
    return entries


def _granite(source: Source) -> dict[str, Any]:
    config = {**sizes(source), "rms_norm_eps": source.real("attention.layer_norm_rms_epsilon")}
    size = config.pop("head_dim")
    if size * config["num_attention_heads"] != config["hidden_size"]:
        raise source.unsupported(f"heads of {size} do not make up the hidden size of {config['hidden_size']}")
    return {
        "model_type": "granite",
        "architectures": ["GraniteForCausalLM"],
        **config,
        "rope_parameters": rope(source, {**config, "head_dim": size}, "linear", "yarn", "llama3"),
        "attention_bias": any(source.any_tensor(f"attn_{part}.bias") for part in ("q", "k", "v", "output")),
        "mlp_bias": any(source.any_tensor(f"ffn_{part}.bias") for part in ("gate", "up", "down")),
        # 0, as where there is none, is llama.cpp's word for the usual scale
        "attention_multiplier": source.real("attention.scale", 0.0) or size**-0.5,
        "embedding_multiplier": source.real("embedding_scale", 0.0) or 1.0,
        "residual_multiplier": source.real("residual_scale", 0.0) or 1.0,
        "logits_scaling": source.real("logit_scale", 0.0) or 1.0,
    }


# transformers has one switch for the biases of attention and one for those of the MLP; llama.cpp takes any of them.
_BIASES = frozenset({*ATTENTION, *GATED})
LLAMA = Family(_llama, {**NORMS, **ROTATED, **GATED, **EXPERTS}, OUTER, bias_may_be_zero=_BIASES)
DECI = Family(_deci, {**NORMS, **ROTATED, **GATED}, OUTER, bias_may_be_zero=_BIASES)
GRANITE = Family(_granite, {**NORMS, **ROTATED, **GATED}, OUTER, bias_may_be_zero=_BIASES)
