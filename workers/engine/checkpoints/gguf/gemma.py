"""Files of the architectures `gemma`, `gemma2` and `gemma3`, whose norms are stored with the 1 that the model adds.

The file does not say by what attention is scaled: llama.cpp knows the 27B models by their number of blocks, and so
does this.
"""

from __future__ import annotations

from typing import Any

from workers.engine.checkpoints.gguf.family import Family, rope, sizes
from workers.engine.checkpoints.gguf.rules import ATTENTION, GATED, OUTER, Rule, less_one, parts
from workers.engine.checkpoints.gguf.source import Source

_27B = {"gemma2": 46, "gemma3": 62}  # blocks
_PERIODS = {"gemma2": 2, "gemma3": 6}  # the last block of each period sees everything
_WINDOWS = {"gemma2": 4096, "gemma3": 0}  # llama.cpp's, where the file has none

_OUTER = {**OUTER, "model.norm": parts("output_norm", make=less_one)}
_NORMS: dict[str, Rule] = {
    "input_layernorm": parts("attn_norm", make=less_one),
    "post_attention_layernorm": parts("ffn_norm", make=less_one),
}
_FOUR_NORMS: dict[str, Rule] = {
    "input_layernorm": parts("attn_norm", make=less_one),
    "post_attention_layernorm": parts("post_attention_norm", make=less_one),
    "pre_feedforward_layernorm": parts("ffn_norm", make=less_one),
    "post_feedforward_layernorm": parts("post_ffw_norm", make=less_one),
}
_HEAD_NORMS: dict[str, Rule] = {
    "self_attn.q_norm": parts("attn_q_norm", make=less_one),
    "self_attn.k_norm": parts("attn_k_norm", make=less_one),
}


def _common(source: Source) -> dict[str, Any]:
    config = {**sizes(source), "rms_norm_eps": source.real("attention.layer_norm_rms_epsilon")}
    if not config["tie_word_embeddings"]:
        raise source.unsupported("the head is a tensor of its own, which llama.cpp does not read in this family")
    return config


def _gemma(source: Source) -> dict[str, Any]:
    config = _common(source)
    return {
        "model_type": "gemma",
        "architectures": ["GemmaForCausalLM"],
        **config,
        "rope_parameters": rope(source, config, "linear", "yarn"),
        "hidden_activation": "gelu_pytorch_tanh",
    }


def _windowed(source: Source) -> dict[str, Any]:
    """What Gemma 2 and 3 share: sliding windows by a period, caps on logits, and the scale of attention."""
    config = _common(source)
    family, blocks = source.architecture, config["num_hidden_layers"]
    config["query_pre_attn_scalar"] = (
        config["hidden_size"] // config["num_attention_heads"] if blocks == _27B[family] else config["head_dim"]
    )
    window = source.whole("attention.sliding_window", _WINDOWS[family])
    slides = _pattern(source, blocks, _PERIODS[family]) if window else [False] * blocks
    config["sliding_window"] = window or config["max_position_embeddings"]
    config["layer_types"] = ["sliding_attention" if slide else "full_attention" for slide in slides]
    config["final_logit_softcapping"] = source.real("final_logit_softcapping", 0.0) or None
    config["attn_logit_softcapping"] = source.real("attn_logit_softcapping", 0.0) or None
    config["hidden_activation"] = "gelu_pytorch_tanh"
    return config


def _pattern(source: Source, blocks: int, usual: int) -> list[bool]:
    """Which blocks slide: by a period, or listed."""
    listed = source.raw(f"{source.architecture}.attention.sliding_window_pattern")
    if isinstance(listed, list):
        if len(listed) != blocks:
            raise source.bad(f"the sliding windows of {len(listed)} blocks are listed, and there are {blocks}")
        return [bool(entry) for entry in listed]
    period = usual if listed is None else listed
    if type(period) is not int or period < 1:
        raise source.bad("the key 'attention.sliding_window_pattern' is no period")
    return [bool((number + 1) % period) for number in range(blocks)]


# llama.cpp's, and every published model's
_CAPS = {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0}


def _gemma2(source: Source) -> dict[str, Any]:
    config = _windowed(source)
    theta = source.real("rope.freq_base", 10000.0)
    if source.real("rope.freq_base_swa", theta) != theta:
        raise source.unsupported("blocks with a sliding window have a rotary embedding of their own")
    for key, usual in _CAPS.items():
        if config[key] is None and source.has(key):
            raise source.bad(f"the key '{key}' is 0, and logits are divided by it")
        config[key] = config[key] or usual
    return {
        "model_type": "gemma2",
        "architectures": ["Gemma2ForCausalLM"],
        **config,
        "rope_parameters": rope(source, config, "linear", "yarn"),
    }


def _gemma3(source: Source) -> dict[str, Any]:
    config = _windowed(source)
    if config["attn_logit_softcapping"] is not None:
        raise source.unsupported("the key 'attn_logit_softcapping' has no effect in llama.cpp's gemma3")
    return {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        **config,
        "rope_parameters": {
            "full_attention": rope(source, config, "linear"),
            "sliding_attention": {
                "rope_type": "default",
                "rope_theta": source.real("rope.freq_base_swa", 10000.0),
            },
        },
    }


GEMMA = Family(_gemma, {**_NORMS, **ATTENTION, **GATED}, _OUTER)
GEMMA2 = Family(_gemma2, {**_FOUR_NORMS, **ATTENTION, **GATED}, _OUTER)
GEMMA3 = Family(_gemma3, {**_FOUR_NORMS, **ATTENTION, **_HEAD_NORMS, **GATED}, _OUTER)
