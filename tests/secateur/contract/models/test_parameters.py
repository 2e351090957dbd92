"""The arithmetic of the cache's size, held against caches that transformers fills."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from secateur.contract.models.parameters import key_value_size

SMALL = {"vocab_size": 64, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 6}


def kept_for_a_token(family: str, entries: dict[str, Any]) -> int:
    """Numbers in the cache of the first block, for each of five tokens."""
    build: Any = AutoModelForCausalLM.from_config  # without type hints in transformers
    model = build(AutoConfig.for_model(family, **entries)).eval()
    with torch.inference_mode():
        layer = model(torch.arange(1, 6).unsqueeze(0), use_cache=True).past_key_values.layers[0]
    return int(layer.keys.numel() + layer.values.numel()) // 5


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("llama", {"num_key_value_heads": 2}),
        ("llama", {"head_dim": 16}),
        ("mistral", {"num_key_value_heads": 3}),
        ("qwen3", {"num_key_value_heads": 2, "head_dim": 12}),
        ("gemma2", {"num_key_value_heads": 2, "head_dim": 10}),
        ("gpt_neox", {}),
        ("stablelm", {"num_key_value_heads": 3}),
        ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 48, "max_position_embeddings": 64}),
        ("falcon", {}),
        ("falcon", {"multi_query": False}),
        ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ],
)
def test_the_cache_has_the_size_that_the_formula_says(family: str, more: dict[str, Any]) -> None:
    entries: dict[str, Any] = {**SMALL, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **more}
    assert key_value_size({"model_type": family, **entries}) == kept_for_a_token(family, entries)


def test_gpt2_has_names_of_its_own() -> None:
    entries = {"n_embd": 48, "n_head": 6, "n_layer": 2, "vocab_size": 64, "n_positions": 32}
    assert key_value_size({"model_type": "gpt2", **entries}) == kept_for_a_token("gpt2", entries)
