"""Rows of the table against the real modules, and what is refused with which reason."""

from __future__ import annotations

from dataclasses import fields

import pytest
from torch import nn
from transformers import AutoConfig

from secateur.contract.errors import BadCheckpoint, UnsupportedModel
from secateur.contract.models.architecture import Architecture
from secateur.contract.models.families import model_types
from workers.engine.architectures.config import layer_count
from workers.engine.architectures.discovery import discover, find_blocks, skeleton
from workers.engine.architectures.registry import architecture_of

_MODEL_TYPES = model_types()


@pytest.mark.parametrize("model_type", _MODEL_TYPES)
def test_row_names_modules_that_exist(model_type: str) -> None:
    config = AutoConfig.for_model(model_type)
    row = architecture_of(config)
    model = skeleton(config)
    blocks = model.get_submodule(row.blocks_prefix)
    assert isinstance(blocks, nn.ModuleList)
    assert len(blocks) == layer_count(config)
    assert find_blocks(model, len(blocks))[0] == row.blocks_prefix
    assert row.base_prefix == model.base_model_prefix
    assert model.get_submodule(row.embeddings[0]) is model.get_input_embeddings()
    for path in (*row.embeddings, row.final_norm, row.head):
        assert path is not None
        model.get_submodule(path)
    attention = blocks[0].get_submodule(row.attention)
    for name in (row.query, row.key, row.value, row.fused_qkv, row.attention_output):
        if name is not None:
            attention.get_submodule(name)
    assert (row.query is None) == ("fused_qkv" in row.quirks)
    if "moe" not in row.quirks:
        mlp = blocks[0].get_submodule(row.mlp)
        for name in (row.gate, row.up, row.fused_gate_up, row.down):
            if name is not None:
                mlp.get_submodule(name)
    assert row.layer_count_key in config.to_dict()


@pytest.mark.parametrize("model_type", _MODEL_TYPES)
def test_structure_alone_finds_what_the_row_says(model_type: str) -> None:
    config = AutoConfig.for_model(model_type)
    row, found = architecture_of(config), discover(config)
    names = "blocks_prefix base_prefix embeddings final_norm head layer_count_key attention mlp per_layer_lists"
    for name in names.split():
        assert getattr(found, name) == getattr(row, name), name


def test_config_as_dict_and_as_object_give_the_same_row() -> None:
    config = AutoConfig.for_model("smollm3", num_hidden_layers=8)
    assert architecture_of(config) == architecture_of(config.to_dict())
    assert architecture_of(config).per_layer_lists == ("layer_types", "no_rope_layers")


def test_a_list_of_another_length_is_not_per_layer() -> None:
    config = {"model_type": "llama", "num_hidden_layers": 4, "eos_token_id": [1, 2, 3, 4]}
    assert architecture_of(config).per_layer_lists == ()


@pytest.mark.parametrize("model_type", ["olmo3", "phi", "gpt_bigcode", "starcoder2", "bloom", "gpt_oss"])
def test_a_family_without_a_row_is_found_by_structure(model_type: str) -> None:
    row = architecture_of(AutoConfig.for_model(model_type))
    assert model_type not in _MODEL_TYPES
    assert isinstance(row, Architecture)
    assert row.family == model_type
    assert {field.name for field in fields(row)} >= {"blocks_prefix", "per_layer_lists", "layer_count_key"}


def test_disk_prefixes_with_and_without_the_base_model() -> None:
    row = architecture_of(AutoConfig.for_model("gpt2"))
    assert row.disk_prefixes == ("transformer.h", "h")


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("bert", "encoder"),
        ("roberta", "encoder"),
        ("t5", "encoder-decoder"),
        ("bart", "encoder-decoder"),
        ("whisper", "encoder-decoder"),
        ("mamba", "state-space"),
        ("jamba", "state-space"),
        ("rwkv", "state-space"),
        ("recurrent_gemma", "recurrent"),
        ("zaya", "Conv1d"),
        ("clip", "vision"),
        ("llava", "vision"),
        ("gemma3", "vision"),
        ("vit", "not a causal language model"),
        ("gemma3n_text", "read the tokens"),
    ],
)
def test_other_kinds_are_refused_with_the_reason(model_type: str, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason) as caught:
        architecture_of(AutoConfig.for_model(model_type))
    assert caught.value.errors[0].pointer == "model"
    assert "decoder-only" in str(caught.value.errors[0].expected)


def test_a_checkpoint_without_a_language_model_head_is_refused() -> None:
    config = {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}
    with pytest.raises(UnsupportedModel, match="no language-model head"):
        architecture_of(config)


def test_unknown_model_type_is_refused_without_running_its_code() -> None:
    with pytest.raises(UnsupportedModel, match="never run"):
        architecture_of({"model_type": "frobnicate", "auto_map": {"AutoConfig": "evil.Config"}})


@pytest.mark.parametrize("config", [{}, {"model_type": 3}, {"model_type": "llama", "hidden_size": "wide"}])
def test_a_broken_config_is_a_bad_checkpoint(config: dict[str, object]) -> None:
    with pytest.raises(BadCheckpoint):
        architecture_of(config)
