"""A Llama that lost halves of blocks has DeciLM's config: transformers makes the same model of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.decilm import decilm_entries
from workers.engine.model.loading import load_model
from workers.engine.pruning.sub_block import prune_sub_block

WIDE = {"intermediate_size": 256}


def pruned(source: Path, target: Path, drop: list[str]) -> dict[str, Any]:
    """config.json of the checkpoint `source` without the halves `drop`."""
    prune_sub_block(Checkpoint.open(source), target, drop=drop)
    config: dict[str, Any] = json.loads((target / "config.json").read_text())
    return config


@pytest.mark.parametrize("model_type", ["llama", "mistral"])
def test_transformers_loads_it_by_the_file_beside_the_weights(
    model_type: str,
    make_model: Callable[..., PreTrainedModel],
    save_model: Callable[..., Path],
    make_ids: Callable[..., Tensor],
    tmp_path: Path,
) -> None:
    settings = {"sliding_window": None} if model_type == "mistral" else {}
    source = save_model(make_model(model_type, **WIDE, **settings))
    pruned(source, tmp_path / "pruned", ["1.attention", "2.attention", "2.mlp", "3.mlp"])
    checkpoint = Checkpoint.open(tmp_path / "pruned")
    by_loader: Any = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    by_transformers: Any = AutoModelForCausalLM.from_pretrained(
        tmp_path / "pruned", trust_remote_code=True, dtype=torch.float32
    )
    ids = make_ids(2, 9, seed=1)
    with torch.no_grad():
        assert torch.equal(by_transformers(ids).logits, by_loader(ids).logits)
    by_transformers.save_pretrained(tmp_path / "again")  # as a user's training would
    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "again", trust_remote_code=True)
    with torch.no_grad():
        assert torch.equal(again(ids).logits, by_loader(ids).logits)


def test_entries_are_those_that_vllm_reads(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path], tmp_path: Path
) -> None:
    """Attributes, not entries of dicts; the width by vLLM's rule; a plain Llama's config beside them."""
    model: Any = make_model("llama", **WIDE)
    written = pruned(save_model(model), tmp_path / "pruned", ["1.attention", "3.mlp"])
    assert (written["model_type"], written["architectures"]) == ("nemotron-nas", ["DeciLMForCausalLM"])
    config: Any = AutoConfig.from_pretrained(tmp_path / "pruned", trust_remote_code=True)
    blocks = config.block_configs
    assert [block.attention.no_op for block in blocks] == [False, True, False, False]
    assert [block.ffn.no_op for block in blocks] == [False, False, False, True]
    assert config.num_attention_heads // blocks[0].attention.n_heads_in_group == model.config.num_key_value_heads
    width = int(2 * blocks[0].ffn.ffn_mult * config.hidden_size / 3)
    assert width + -width % 256 == 256  # rounded up
    assert config.rope_parameters == model.config.rope_parameters


LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
}


@pytest.mark.parametrize(
    ("config", "without"),
    [
        ({}, {0: ["attention"]}),
        ({}, {}),
        ({"model_type": "qwen2"}, {1: ["attention"]}),
        ({"model_type": "mistral", "sliding_window": 32}, {1: ["attention"]}),
        ({"intermediate_size": 96}, {1: ["attention"]}),
        ({"hidden_act": "gelu"}, {1: ["attention"]}),
        ({"quantization_config": {"quant_method": "gptq"}}, {1: ["attention"]}),
        ({"num_attention_heads": None}, {1: ["attention"]}),
    ],
)
def test_what_decilm_cannot_say_is_left_to_the_loader(config: dict[str, Any], without: dict[int, list[str]]) -> None:
    assert decilm_entries(LLAMA, {1: ["attention"]})
    assert decilm_entries({**LLAMA, **config}, without) == {}


def test_a_first_block_without_attention_needs_the_loader(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path], tmp_path: Path
) -> None:
    written = pruned(save_model(make_model("llama", **WIDE)), tmp_path / "pruned", ["0.attention"])
    assert (written["model_type"], "block_configs" in written) == ("secateur", False)
