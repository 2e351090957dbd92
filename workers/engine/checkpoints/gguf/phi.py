"""Files of the architecture `phi3`, whose queries, keys and values are one matrix, and gate and up another."""

from __future__ import annotations

from typing import Any

from workers.engine.checkpoints.gguf.family import Family, plain_head, rope, sizes
from workers.engine.checkpoints.gguf.rules import NORMS, OUTER, Rule, parts
from workers.engine.checkpoints.gguf.source import Source

_BLOCK: dict[str, Rule] = {
    **NORMS,
    "self_attn.qkv_proj": parts("attn_qkv"),
    "self_attn.o_proj": parts("attn_output"),
    "mlp.gate_up_proj": parts("ffn_up"),
    "mlp.down_proj": parts("ffn_down"),
}


def _phi3(source: Source) -> dict[str, Any]:
    config = {**sizes(source), "rms_norm_eps": source.real("attention.layer_norm_rms_epsilon")}
    scaling = rope(source, config, "longrope", partial=True)
    original = scaling.get("original_max_position_embeddings", config["max_position_embeddings"])
    window = source.whole("attention.sliding_window", 0)
    return {
        "model_type": "phi3",
        "architectures": ["Phi3ForCausalLM"],
        **plain_head(source, config),
        "rope_parameters": scaling,
        "original_max_position_embeddings": original,
        # llama.cpp leaves the window out, for want of its pattern; the models themselves have it
        "sliding_window": window if 0 < window < config["max_position_embeddings"] else None,
    }


PHI3 = Family(_phi3, _BLOCK, OUTER)
