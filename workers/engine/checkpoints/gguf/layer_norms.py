"""Files of families with layer norms: `gpt2`, `starcoder2`, `stablelm` and `nemotron`."""

from __future__ import annotations

from typing import Any

from workers.engine.checkpoints.gguf.family import Family, block_count, is_tied, plain_head, rope, sizes
from workers.engine.checkpoints.gguf.rules import ATTENTION, GATED, NORMS, OUTER, Rule, less_one, own_row, parts, turned
from workers.engine.checkpoints.gguf.source import Source


def _gpt2(source: Source) -> dict[str, Any]:
    width, heads = source.whole("embedding_length"), source.whole("attention.head_count")
    if heads < 1 or width % heads or source.whole("attention.head_count_kv", heads) != heads:
        raise source.bad(f"a width of {width} is not shared by {heads} heads")
    for key in ("attention.key_length", "attention.value_length"):
        if source.whole(key, width // heads) != width // heads:
            raise source.unsupported(f"the key {key!r} is not the width over the number of heads")
    context = source.whole("context_length")
    positions = source.shape("position_embd.weight")[0]
    if context != positions:
        raise source.bad(f"context_length is {context}, and {positions} positions are embedded")
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": source.shape("token_embd.weight")[0],
        "n_positions": context,
        "n_embd": width,
        "n_layer": block_count(source),
        "n_head": heads,
        "n_inner": source.whole("feed_forward_length", 4 * width),
        "layer_norm_epsilon": source.real("attention.layer_norm_epsilon"),
        "activation_function": "gelu_new",
        "tie_word_embeddings": is_tied(source),
    }


def _starcoder2(source: Source) -> dict[str, Any]:
    config = sizes(source)
    return {
        "model_type": "starcoder2",
        "architectures": ["Starcoder2ForCausalLM"],
        **plain_head(source, config),
        "norm_epsilon": source.real("attention.layer_norm_epsilon"),
        "rope_parameters": rope(source, config, "linear", "yarn"),
        "hidden_act": "gelu_pytorch_tanh",
        "use_bias": True,
        "sliding_window": None,
    }


def _stablelm(source: Source) -> dict[str, Any]:
    config = sizes(source)
    parallel = not source.any_tensor("ffn_norm.weight")
    if source.flag("use_parallel_residual", parallel) and not parallel:
        raise source.unsupported("the key 'use_parallel_residual' is true, and the MLP has a norm of its own")
    return {
        "model_type": "stablelm",
        "architectures": ["StableLmForCausalLM"],
        **plain_head(source, config),
        "layer_norm_eps": source.real("attention.layer_norm_epsilon"),
        "rope_parameters": rope(source, config, "linear", "yarn", partial=True),
        "use_parallel_residual": parallel,
        "use_qkv_bias": source.any_tensor("attn_q.bias"),
        "qk_layernorm": source.any_tensor("attn_q_norm.weight"),
    }


def _nemotron(source: Source) -> dict[str, Any]:
    config = sizes(source)
    return {
        "model_type": "nemotron",
        "architectures": ["NemotronForCausalLM"],
        **config,
        "norm_eps": source.real("attention.layer_norm_epsilon"),
        "rope_parameters": rope(source, config, "linear", partial=True),
        "attention_bias": source.any_tensor("attn_q.bias"),
        "mlp_bias": source.any_tensor("ffn_up.bias"),
        "hidden_act": "relu2",
    }


_GPT2_BLOCK: dict[str, Rule] = {
    "ln_1": parts("attn_norm"),
    "attn.c_attn": parts("attn_qkv", make=turned),
    "attn.c_proj": parts("attn_output", make=turned),
    "ln_2": parts("ffn_norm"),
    "mlp.c_fc": parts("ffn_up", make=turned),
    "mlp.c_proj": parts("ffn_down", make=turned),
}
_GPT2_OUTER: dict[str, Rule] = {
    "transformer.wte": parts("token_embd"),
    "transformer.wpe": parts("position_embd"),
    "transformer.ln_f": parts("output_norm"),
    "lm_head": parts("output"),
}
_STARCODER2_BLOCK = {**NORMS, **ATTENTION, "mlp.c_fc": parts("ffn_up"), "mlp.c_proj": parts("ffn_down")}

_STABLELM_BLOCK: dict[str, Rule] = {
    **NORMS,
    **ATTENTION,
    **GATED,
    "self_attn.q_layernorm.norms": parts("attn_q_norm", make=own_row),
    "self_attn.k_layernorm.norms": parts("attn_k_norm", make=own_row),
}
_NEMOTRON_BLOCK: dict[str, Rule] = {
    **ATTENTION,
    "input_layernorm": parts("attn_norm", make=less_one),
    "post_attention_layernorm": parts("ffn_norm", make=less_one),
    "mlp.up_proj": parts("ffn_up"),
    "mlp.down_proj": parts("ffn_down"),
}

GPT2 = Family(_gpt2, _GPT2_BLOCK, _GPT2_OUTER, layers="transformer.h")
STARCODER2 = Family(_starcoder2, _STARCODER2_BLOCK, OUTER)
STABLELM = Family(_stablelm, _STABLELM_BLOCK, OUTER)
NEMOTRON = Family(_nemotron, _NEMOTRON_BLOCK, {**OUTER, "model.norm": parts("output_norm", make=less_one)})
