"""Tiny random models of every family, made from the family's own config class, and tokens for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCABULARY = 96

_LLAMA_LIKE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

# What to set beside _LLAMA_LIKE, or in its place where the family's names differ. Sliding windows are shorter than
# the samples, so that they matter.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA_LIKE, "tie_word_embeddings": True},
    "mistral": {**_LLAMA_LIKE, "sliding_window": 5},
    "mixtral": {**_LLAMA_LIKE, "num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma": {**_LLAMA_LIKE, "head_dim": 16},
    "gemma2": {**_LLAMA_LIKE, "head_dim": 16, "sliding_window": 5},
    "gemma3_text": {
        **_LLAMA_LIKE,
        "head_dim": 16,
        "sliding_window": 5,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "qwen2": {**_LLAMA_LIKE, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
    "qwen3": {**_LLAMA_LIKE, "head_dim": 16},
    "qwen2_moe": {
        **_LLAMA_LIKE,
        **_EXPERTS,
        "shared_expert_intermediate_size": 24,
        "mlp_only_layers": [1],
    },
    "qwen3_moe": {**_LLAMA_LIKE, **_EXPERTS, "head_dim": 16, "mlp_only_layers": [2]},
    "phi3": {**_LLAMA_LIKE, "pad_token_id": 0, "sliding_window": 5},
    "olmo2": dict(_LLAMA_LIKE),
    "gpt2": {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64},
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 32,
        "max_position_embeddings": 64,
    },
    "gpt_neox": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
    "smollm3": {**_LLAMA_LIKE, "no_rope_layers": [1, 1, 0, 1], "pad_token_id": 0},
    "granite": {**_LLAMA_LIKE, "residual_multiplier": 0.5, "logits_scaling": 2.0},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4},
    "stablelm": dict(_LLAMA_LIKE),
}

# Families without a row, for tests of what is found by structure.
WITHOUT_A_ROW: dict[str, dict[str, Any]] = {
    "glm4_moe": {
        **_LLAMA_LIKE,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "pad_token_id": 0,
    },
    "olmoe": {**_LLAMA_LIKE, "num_experts": 4, "num_experts_per_tok": 2, "pad_token_id": 0},
    "gpt_oss": {
        **_LLAMA_LIKE,
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 5,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "pad_token_id": 0,
    },
}


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> Iterator[None]:
    """Tiny matrices: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    """The model type of each family in turn."""
    return cast(str, request.param)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., PreTrainedModel]:
    """make_model("llama", num_hidden_layers=6, seed=1): a tiny random model, in evaluation mode."""

    def make(model_type: str = "llama", *, seed: int = 0, **settings: Any) -> PreTrainedModel:
        tokens = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2}
        config = AutoConfig.for_model(model_type, **{**(FAMILIES | WITHOUT_A_ROW)[model_type], **tokens, **settings})
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            # the auto classes carry no annotations
            model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
            with torch.no_grad():  # far from the initial state, so that blocks differ and no norm is all ones
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.08)
        return cast(PreTrainedModel, model.eval())

    return make


@pytest.fixture(scope="session")
def make_ids() -> Callable[..., Tensor]:
    """make_ids(samples, tokens, seed=…): random token ids."""

    def make(samples: int = 3, tokens: int = 12, *, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(3, VOCABULARY, (samples, tokens), generator=generator)

    return make


@pytest.fixture
def save_model(tmp_path: Path) -> Callable[..., Path]:
    """save_model(model, max_shard_size="20KB"): the model as a checkpoint folder."""

    def save(model: PreTrainedModel, *, name: str = "checkpoint", **settings: Any) -> Path:
        path = tmp_path / name
        model.save_pretrained(path, **settings)
        return path

    return save


@pytest.fixture(scope="session")
def write_gguf() -> Callable[..., Path]:
    """write_gguf(path, model, quantisation="Q8_0"): a tiny Llama as a GGUF file, with a byte-level tokenizer."""
    from tests.fixtures.tiny_gguf import write_tiny_gguf  # heavy and only wanted here

    return write_tiny_gguf
