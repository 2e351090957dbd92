"""What DeciLM's config can say of a Llama-shaped model whose blocks lost their attention or their MLP.

DeciLM (model type "nemotron-nas") is a Llama each of whose blocks has an entry of its own, where either half may be a
`no_op`. vLLM runs it, and llama.cpp's converter makes the architecture `deci` of it. Both compute the width of an MLP
from a ratio and round it up to 256, and both begin with an attention: a first block without one is beyond them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from workers.engine.architectures.config import DECILM

MULTIPLE = 256  # of which the width of an MLP is one
_COUNTS = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")


def decilm_entries(config: Mapping[str, Any], without: Mapping[int, Collection[str]]) -> dict[str, Any]:
    """Entries of config.json that make a DeciLM of it; none where the model is no such one.

    Args:
        config: of the model with whole blocks.
        without: by the number of a block the halves that it lost, "attention" or "mlp".
    """
    if not without or why_not(config, without) is not None:
        return {}
    heads, width = config["num_attention_heads"], config["intermediate_size"]
    group = heads // (config.get("num_key_value_heads") or heads)
    multiplier = 3 * width / (2 * config["hidden_size"])
    blocks = []
    for number in range(config["num_hidden_layers"]):
        attention, mlp = ("attention" not in without.get(number, ())), ("mlp" not in without.get(number, ()))
        blocks.append(
            {
                "attention": {
                    "no_op": not attention,
                    "n_heads_in_group": group if attention else None,
                    "replace_with_linear": False,
                },
                "ffn": {"no_op": not mlp, "ffn_mult": multiplier if mlp else None, "replace_with_linear": False},
            }
        )
    loader = "modeling_secateur"
    return {
        "model_type": DECILM,
        "architectures": ["DeciLMForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{loader}.DeciLMConfig",
            "AutoModelForCausalLM": f"{loader}.DeciLMForCausalLM",
        },
        "block_configs": blocks,
    }


def is_decilm(config: Mapping[str, Any]) -> bool:
    """Whether config.json is that of a DeciLM."""
    return config.get("model_type") == DECILM


def why_not(config: Mapping[str, Any], without: Mapping[int, Collection[str]]) -> str | None:
    """Why DeciLM's config cannot say it, a whole sentence; None where it can. Arguments as of `decilm_entries`."""
    if config.get("model_type") not in ("llama", "mistral") or config.get("sliding_window"):
        return f"DeciLM's blocks are Llama's, and the model is a \"{config.get('model_type')}\"."
    missing = [key for key in _COUNTS if not isinstance(config.get(key), int)]
    if missing:
        return f"config.json does not say {missing[0]}."
    if config.get("quantization_config") is not None:
        return "The model's weights are quantised."
    if "attention" in without.get(0, ()):
        return "The first block has no attention, and programs that run DeciLM begin with one."
    if config.get("hidden_act", "silu") != "silu":
        return f'The activation is "{config["hidden_act"]}", and DeciLM has silu.'
    if config["intermediate_size"] % MULTIPLE:
        return f"The MLPs are {config['intermediate_size']} wide, and DeciLM's widths are multiples of {MULTIPLE}."
    return None
