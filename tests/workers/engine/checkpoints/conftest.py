"""Tiny checkpoints written by transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM


@pytest.fixture(scope="session")
def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


@pytest.fixture
def single(tmp_path: Path, tiny_llama: LlamaForCausalLM) -> Path:
    """A checkpoint in one file."""
    tiny_llama.save_pretrained(tmp_path / "single")
    return tmp_path / "single"


@pytest.fixture
def sharded(tmp_path: Path, tiny_llama: LlamaForCausalLM) -> Path:
    """The same checkpoint in many shards."""
    tiny_llama.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    return tmp_path / "sharded"
