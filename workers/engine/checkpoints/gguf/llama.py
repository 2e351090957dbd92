"""Files of the architecture `llama`: Llama, Mistral, Mixtral, SmolLM and their like; `granite` beside it."""

from __future__ import annotations

from typing import Any

from workers.engine.checkpoints.gguf.family import Family, no_window, rope, sizes
from workers.engine.checkpoints.gguf.rules import ATTENTION, EXPERTS, GATED, NORMS, OUTER, ROTATED
from workers.engine.checkpoints.gguf.source import Source


def _llama(source: Source) -> dict[str, Any]:
    config = {**sizes(source), "rms_norm_eps": source.real("attention.layer_norm_rms_epsilon")}
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
GRANITE = Family(_granite, {**NORMS, **ROTATED, **GATED}, OUTER, bias_may_be_zero=_BIASES)
