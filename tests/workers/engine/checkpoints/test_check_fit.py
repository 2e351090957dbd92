"""Tensors that are not those of the config, found from headers alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from secateur.contract.errors import BadCheckpoint
from workers.engine.checkpoints.check_fit import check_fit
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.quantise.linear_weights import quantise_linear

SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def edit_tensors(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def edit_config(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(BadCheckpoint) as caught:
        check_fit(Checkpoint.open(folder))
    assert caught.value.errors[0].pointer == "model"
    assert caught.value.errors[0].expected
    return caught.value.detail


def test_what_transformers_writes_fits(
    family: str, make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    for tied in (True, False):
        folder = save_model(make_model(family, tie_word_embeddings=tied), name=str(tied), max_shard_size="40KB")
        check_fit(Checkpoint.open(folder))


@pytest.mark.parametrize("model_type", ["exaone", "olmo3", "cohere", "glm4", "phimoe", "gpt_oss"])
def test_families_without_a_row_and_with_other_names_on_disk_fit(model_type: str, tmp_path: Path) -> None:
    more = {"num_local_experts": 2, "num_experts_per_tok": 1, "pad_token_id": 0, "head_dim": 8}
    config = AutoConfig.for_model(model_type, **SMALL, **more)
    model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]  # no annotations
    model.save_pretrained(tmp_path / "model")
    check_fit(Checkpoint.open(tmp_path / "model"))


def test_quantised_weights_fit_and_their_whole_tensors_are_looked_at(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path], tmp_path: Path
) -> None:
    quantise_linear(Checkpoint.open(save_model(make_model("llama"))), tmp_path / "quantised", bits=8, group_size=None)
    check_fit(Checkpoint.open(tmp_path / "quantised"))
    assert "[96, 32]" in refused(edit_config(tmp_path / "quantised", vocab_size=97))
    edit_config(tmp_path / "quantised", vocab_size=96)

    def lose(tensors: dict[str, Tensor]) -> None:
        for part in ("packed", "scale", "shape"):
            del tensors[f"model.layers.2.mlp.up_proj.weight_{part}"]

    assert "model.layers.2.mlp.up_proj.weight" in refused(edit_tensors(tmp_path / "quantised", lose))


def test_rows_of_the_embedding_that_are_not_the_vocabulary(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    detail = refused(edit_config(save_model(make_model("llama")), vocab_size=104))
    assert "'model.embed_tokens.weight' has the shape [96, 32], and config.json asks for [104, 32]" in detail


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"intermediate_size": 56}, "mlp.down_proj.weight' has the shape [32, 48], and config.json asks for [32, 56]"),
        ({"num_key_value_heads": 4}, "self_attn.k_proj.weight' has the shape [16, 32]"),
        ({"attention_bias": True}, "q_proj.bias"),
        ({"tie_word_embeddings": False}, "lacks the tensor 'lm_head.weight'"),
    ],
)
def test_configs_of_another_model(
    changes: dict[str, Any], named: str, make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    assert named in refused(edit_config(save_model(make_model("llama")), **changes))


def test_experts_that_are_fewer_than_the_config_says(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    detail = refused(edit_config(save_model(make_model("mixtral")), num_local_experts=8))
    assert "experts" in detail or "block_sparse_moe" in detail


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("model.layers.1.self_attn.q_proj.bias", (32,), "which the llama model of config.json does not have"),
        ("model.embed_tokens.extra", (4, 4), "does not have"),
        ("embed_tokens.weight", (96, 32), "are the same parameter of the model"),
    ],
)
def test_tensors_that_the_model_has_no_place_for(
    name: str,
    shape: tuple[int, ...],
    words: str,
    make_model: Callable[..., PreTrainedModel],
    save_model: Callable[..., Path],
) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors[name] = torch.zeros(shape)

    detail = refused(edit_tensors(save_model(make_model("llama")), add))
    assert name in detail
    assert words in detail


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.bool, torch.int64])
@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_whole_numbers_that_no_quantiser_has_made(
    dtype: torch.dtype, name: str, make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    def round_off(tensors: dict[str, Tensor]) -> None:
        tensors[name] = tensors[name].to(dtype)

    detail = refused(edit_tensors(save_model(make_model("llama")), round_off))
    assert f"'{name}' is stored as" in detail
    assert "config.json names no quantiser" in detail


def test_a_mask_of_older_versions_may_be_of_whole_numbers(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)

    check_fit(Checkpoint.open(edit_tensors(save_model(make_model("gpt2")), add)))


@pytest.mark.parametrize(
    ("settings", "packed", "scales"),
    [
        ({"quant_method": "fp8"}, {"weight": torch.float8_e4m3fn}, "weight_scale_inv"),
        ({"quant_method": "fbgemm_fp8"}, {"weight": torch.float8_e4m3fn}, "weight_scale"),
        ({"quant_method": "compressed-tensors"}, {"weight_packed": torch.int32}, "weight_scale"),
        ({"quant_method": "gptq"}, {"qweight": torch.int32, "qzeros": torch.int32}, "scales"),
        ({"quant_method": "awq"}, {"qweight": torch.int32, "qzeros": torch.int32}, "scales"),
        ({"quant_method": "mxfp4"}, {"weight_blocks": torch.uint8}, "weight_scales"),
    ],
)
def test_packed_values_without_their_scales(
    settings: dict[str, Any],
    packed: dict[str, torch.dtype],
    scales: str,
    make_model: Callable[..., PreTrainedModel],
    save_model: Callable[..., Path],
) -> None:
    folder = save_model(make_model("llama"))
    module = "model.layers.1.mlp.up_proj"

    def pack(tensors: dict[str, Tensor]) -> None:
        shape = tensors.pop(f"{module}.weight").shape
        tensors.update({f"{module}.{part}": torch.zeros(shape).to(dtype) for part, dtype in packed.items()})
        tensors[f"{module}.{scales}"] = torch.ones(1)

    edit_config(edit_tensors(folder, pack), quantization_config=settings)
    check_fit(Checkpoint.open(folder))
    detail = refused(edit_tensors(folder, lambda tensors: tensors.pop(f"{module}.{scales}")))
    assert f"packed by {settings['quant_method']}, and its scales" in detail
    assert module in detail


def test_a_tensor_that_is_missing_is_named(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    folder = edit_tensors(save_model(make_model("gpt2")), lambda tensors: tensors.pop("transformer.h.2.mlp.c_fc.bias"))
    assert "lacks the tensor 'transformer.h.2.mlp.c_fc.bias'" in refused(folder)


def test_buffers_of_older_versions_and_prediction_heads_are_in_order(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
        tensors["mtp.layers.0.mlp.up_proj.weight"] = torch.zeros(4, 4)

    check_fit(Checkpoint.open(edit_tensors(save_model(make_model("llama")), add)))

    def masks(tensors: dict[str, Tensor]) -> None:
        for block in range(4):
            tensors[f"h.{block}.attn.bias"] = torch.zeros(1, 1, 64, 64)
            tensors[f"h.{block}.attn.masked_bias"] = torch.zeros(())

    def bare(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        masks(tensors)

    check_fit(Checkpoint.open(edit_tensors(save_model(make_model("gpt2"), name="gpt2"), bare)))
