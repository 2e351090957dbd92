"""Files of the architectures `qwen2`, `qwen2moe`, `qwen3` and `qwen3moe`."""

from __future__ import annotations

from typing import Any

from workers.engine.checkpoints.gguf.family import Family, plain_head, rope, sizes
from workers.engine.checkpoints.gguf.rules import (
    ATTENTION,
    EXPERTS,
    GATED,
    HEAD_NORMS,
    NORMS,
    OUTER,
    Rule,
    one_row,
    parts,
)
from workers.engine.checkpoints.gguf.source import Source

_SHARED: dict[str, Rule] = {
    "mlp.shared_expert.gate_proj": parts("ffn_gate_shexp"),
    "mlp.shared_expert.up_proj": parts("ffn_up_shexp"),
    "mlp.shared_expert.down_proj": parts("ffn_down_shexp"),
    "mlp.shared_expert_gate": parts("ffn_gate_inp_shexp", make=one_row),
}


def _common(source: Source) -> dict[str, Any]:
    config = {**sizes(source), "rms_norm_eps": source.real("attention.layer_norm_rms_epsilon")}
    config["rope_parameters"] = rope(source, config, "linear", "yarn")
    config["use_sliding_window"] = False
    return config


def _experts(source: Source) -> dict[str, Any]:
    experts, used = source.whole("expert_count"), source.whole("expert_used_count")
    if not 0 < used <= experts:
        raise source.bad(f"{used} of {experts} experts are used")
    return {"num_experts": experts, "num_experts_per_tok": used, "decoder_sparse_step": 1, "mlp_only_layers": []}


def _qwen2(source: Source) -> dict[str, Any]:
    return {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        **plain_head(source, _common(source)),
    }


def _qwen3(source: Source) -> dict[str, Any]:
    return {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        **_common(source),
        "attention_bias": source.any_tensor("attn_q.bias"),
    }


def _qwen2moe(source: Source) -> dict[str, Any]:
    config = plain_head(source, _common(source))
    experts = _experts(source)
    width = config["intermediate_size"]
    return {
        "model_type": "qwen2_moe",
        "architectures": ["Qwen2MoeForCausalLM"],
        **config,
        **experts,
        # llama.cpp's own defaults, for files of before these keys
        "moe_intermediate_size": source.whole("expert_feed_forward_length", 0)
        or width // experts["num_experts_per_tok"],
        "shared_expert_intermediate_size": source.whole("expert_shared_feed_forward_length", 0) or width,
        "norm_topk_prob": False,
        "qkv_bias": source.any_tensor("attn_q.bias"),
    }


def _qwen3moe(source: Source) -> dict[str, Any]:
    config = _common(source)
    experts = _experts(source)
    width = config["intermediate_size"] // experts["num_experts_per_tok"]
    return {
        "model_type": "qwen3_moe",
        "architectures": ["Qwen3MoeForCausalLM"],
        **config,
        **experts,
        "moe_intermediate_size": source.whole("expert_feed_forward_length", 0) or width,
        "norm_topk_prob": True,  # llama.cpp always divides the chosen experts' weights by their sum here
        "attention_bias": source.any_tensor("attn_q.bias"),
    }


QWEN2 = Family(_qwen2, {**NORMS, **ATTENTION, **GATED}, OUTER)
QWEN2_MOE = Family(_qwen2moe, {**NORMS, **ATTENTION, **EXPERTS, **_SHARED}, OUTER)
QWEN3 = Family(_qwen3, {**NORMS, **ATTENTION, **HEAD_NORMS, **GATED}, OUTER)
QWEN3_MOE = Family(_qwen3moe, {**NORMS, **ATTENTION, **HEAD_NORMS, **EXPERTS}, OUTER)
