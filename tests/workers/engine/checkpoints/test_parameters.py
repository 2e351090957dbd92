"""Parameter counts from configs: the published ones to the unit, and the families' classes built without weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from transformers import AutoConfig, PreTrainedModel

from secateur.contract.errors import BadCheckpoint, UnsupportedModel
from secateur.contract.models.families import model_types
from secateur.contract.models.formulas import ParameterCount
from secateur.contract.models.parameters import parameter_count
from workers.engine.architectures.config import as_config
from workers.engine.architectures.discovery import skeleton
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.parameters import count_by_structure, count_parameters

# As their config.json has them on the hub, with what does not matter to the count left out.
LLAMA_7B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}
VICUNA_13B = {
    **LLAMA_7B,
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_attention_heads": 40,
    "num_hidden_layers": 40,
}
MISTRAL_7B = {**LLAMA_7B, "model_type": "mistral", "intermediate_size": 14336, "num_key_value_heads": 8}
LLAMA_3_8B = {**LLAMA_7B, "intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 128256}
GEMMA_2B: dict[str, Any] = {
    "model_type": "gemma",
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "num_hidden_layers": 18,
    "vocab_size": 256000,
}
GEMMA_7B = {
    **GEMMA_2B,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "num_hidden_layers": 28,
}
OPT_125M: dict[str, Any] = {
    "model_type": "opt",
    "hidden_size": 768,
    "ffn_dim": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "vocab_size": 50272,
    "max_position_embeddings": 2048,
    "word_embed_proj_dim": 768,
}


@pytest.mark.parametrize(
    ("config", "dropped", "published"),
    [
        (LLAMA_7B, set(), 6_738_415_616),
        (LLAMA_7B, {24, 26, 25, 10, 27, 13}, 5_524_115_456),
        (LLAMA_7B, {24}, 6_536_032_256),
        (VICUNA_13B, set(range(20, 28)), 10_478_228_480),
        (MISTRAL_7B, set(), 7_241_732_096),
        (LLAMA_3_8B, set(), 8_030_261_248),
        (GEMMA_2B, set(), 2_506_172_416),
        (GEMMA_7B, set(), 8_537_680_896),
        (OPT_125M, set(), 125_239_296),
        (OPT_125M, {2, 3}, 111_063_552),
    ],
)
def test_published_counts(config: dict[str, Any], dropped: set[int], published: int) -> None:
    count = count_parameters(config)
    assert count.total - sum(count.blocks[number].total for number in dropped) == published
    assert parameter_count(config) == count
    shorter = {**config, "num_hidden_layers": config["num_hidden_layers"] - len(dropped)}
    assert count_parameters(shorter).total == published


def places(count: ParameterCount | None) -> tuple[list[int], int, int, int]:
    """Parameters by place; which half of a block they are in is no matter of structure."""
    assert count is not None
    return [block.total for block in count.blocks], count.embedding, count.head, count.other


def test_formula_equals_structure(family: str, make_model: Callable[..., PreTrainedModel]) -> None:
    config = json.loads(make_model(family).config.to_json_string(use_diff=False))
    counted = count_parameters(config)
    assert places(counted) == places(count_by_structure(as_config(config), architecture_of(config)))
    assert counted.total == make_model(family).num_parameters()
    assert parameter_count(config) == counted


VARIANTS: list[dict[str, Any]] = [
    {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 2},
    {"model_type": "llama", "head_dim": 24, "num_key_value_heads": None},
    {"model_type": "mistral", "head_dim": None},
    {"model_type": "gemma", "attention_bias": True, "num_key_value_heads": 1},
    {"model_type": "gemma3_text", "num_key_value_heads": 2},
    {"model_type": "qwen2", "num_key_value_heads": 2, "tie_word_embeddings": True},
    {"model_type": "qwen3", "num_key_value_heads": 2},
    {"model_type": "qwen2_moe", "decoder_sparse_step": 2, "num_key_value_heads": 2, "qkv_bias": False},
    {"model_type": "qwen2_moe", "num_key_value_heads": 4, "mlp_only_layers": [0, 2]},
    {"model_type": "qwen3_moe", "num_experts": 4, "moe_intermediate_size": 16},
    {"model_type": "qwen3_moe", "num_experts": 4, "attention_bias": True},
    {"model_type": "olmo2", "attention_bias": True, "num_key_value_heads": 2},
    {"model_type": "stablelm", "num_key_value_heads": 2, "use_qkv_bias": True, "qk_layernorm": True},
    {"model_type": "stablelm", "num_key_value_heads": 4, "use_parallel_residual": True, "tie_word_embeddings": True},
    {"model_type": "gpt2", "n_inner": 100, "tie_word_embeddings": False},
    {"model_type": "opt", "word_embed_proj_dim": 16, "ffn_dim": 64},
    {"model_type": "opt", "word_embed_proj_dim": 32, "ffn_dim": 64, "do_layer_norm_before": False},
    {"model_type": "opt", "word_embed_proj_dim": 32, "ffn_dim": 64, "enable_bias": False},
    {"model_type": "opt", "word_embed_proj_dim": 32, "ffn_dim": 64, "layer_norm_elementwise_affine": False},
    {"model_type": "gpt_neox", "attention_bias": False, "tie_word_embeddings": True},
    {"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 2},
    {"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
    {"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 2, "parallel_attn": False},
    {"model_type": "falcon", "multi_query": False, "parallel_attn": False, "bias": True, "alibi": True},
    {"model_type": "falcon", "multi_query": True, "ffn_hidden_size": 77},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_switches_that_change_the_count(variant: dict[str, Any]) -> None:
    config = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "vocab_size": 60,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        **({"n_embd": 32, "n_layer": 3, "n_head": 4} if variant["model_type"] == "gpt2" else {}),
        **variant,
    }
    counted = count_parameters(config)
    assert places(counted) == places(count_by_structure(as_config(config), architecture_of(config)))
    assert parameter_count(config) == counted
    assert counted.total == sum(p.numel() for p in skeleton(as_config(config)).parameters())


@pytest.mark.parametrize("model_type", sorted(model_types()))
def test_defaults_are_those_of_the_class(model_type: str) -> None:
    """An entry that config.json leaves out means the class's default, in the formula as in transformers."""
    sizes = {
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
        "ffn_dim", "n_embd", "n_layer", "n_head", "model_type",
    }  # fmt: skip
    full = AutoConfig.for_model(model_type, pad_token_id=0).to_dict()
    small = {**{key: value for key, value in full.items() if key in sizes}}
    small |= {key: 2 for key in ("num_hidden_layers", "n_layer") if key in small}
    by_structure = count_by_structure(
        AutoConfig.for_model(model_type, pad_token_id=0, **{k: v for k, v in small.items() if k != "model_type"}),
        architecture_of({**small, "pad_token_id": 0}),
    )
    assert places(parameter_count(small)) == places(by_structure)


def test_a_family_without_a_formula_is_counted_by_structure() -> None:
    config = {
        "model_type": "gpt_neo",
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 60,
        "max_position_embeddings": 64,
        "attention_types": [[["global", "local"], 1]],
    }
    assert parameter_count(config) is None
    counted = count_parameters(config)
    assert counted.total == sum(p.numel() for p in skeleton(as_config(config)).parameters())
    assert len(counted.blocks) == 2
    assert counted.head == 0


def test_configs_that_do_not_say() -> None:
    with pytest.raises(BadCheckpoint, match=r"config.json has no hidden_size"):
        parameter_count({"model_type": "llama"})
    with pytest.raises(BadCheckpoint, match="hidden_size is not a size"):
        parameter_count({**LLAMA_7B, "hidden_size": "4096"})
    with pytest.raises(BadCheckpoint, match="no attention heads"):
        parameter_count({**LLAMA_7B, "num_attention_heads": 0})
    with pytest.raises(BadCheckpoint, match="num_hidden_layers is larger than any model"):
        parameter_count({**LLAMA_7B, "num_hidden_layers": 10**9})
    with pytest.raises(UnsupportedModel):
        count_parameters({"model_type": "bert"})
