"""What an estimate says of the bytes of quantised models is what is written, family by family and kind by kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from secateur.contract.estimates.model import in_bytes, known_model
from secateur.contract.estimates.quantised import quantised_bytes
from secateur.contract.estimates.removal import removal_of
from secateur.contract.estimates.setting import Setting
from secateur.contract.gguf_kinds import FILE_KINDS
from secateur.contract.models.families import FAMILIES
from secateur.contract.models.parameters import parameter_count
from secateur.contract.spec import CompressionSpec
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.pruning.depth import prune_depth
from workers.engine.pruning.sub_block import prune_sub_block
from workers.engine.pruning.width import prune_width
from workers.engine.quantise.gguf_config import architecture, supported
from workers.engine.quantise.gguf_tensors import rope_weights, weights_of
from workers.engine.quantise.gguf_writing import Planned
from workers.engine.quantise.linear_weights import quantise_linear

WIDE = {"hidden_size": 256, "intermediate_size": 512, "vocab_size": 96}  # rows that super-blocks fill
LLAMA3 = {
    **{"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "original_max_position_embeddings": 64},
    **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
}
# What llama.cpp needs, or holds for given.
OF_GGUF: dict[str, dict[str, Any]] = {
    "gemma2": {"query_pre_attn_scalar": 16},
    "gemma3_text": {"query_pre_attn_scalar": 16},
    "mistral": {"sliding_window": None},
    "qwen2": {"use_sliding_window": False},
    "qwen2_moe": {"mlp_only_layers": []},
    "qwen3_moe": {"mlp_only_layers": [], "norm_topk_prob": True},
}
WRITTEN = sorted({family.architecture.model_types[0] for family in FAMILIES if family.gguf is not None})


def told(source: Checkpoint, pruning: dict[str, Any], way: dict[str, Any]) -> int | None:
    """By the estimate, of the model that this pruning leaves of the checkpoint."""
    body = {"model": {"source": "local", "path": "m"}, "pruning": pruning, "recovery": {"kind": "none"}}
    spec = CompressionSpec.model_validate({**body, "quantise": [way]})
    count = parameter_count(source.config)
    assert count is not None
    model = known_model(source.config, in_bytes(count, 4))
    assert model is not None
    setting = Setting(spec, model, removal_of(spec, model), False, "cpu", 4)
    return quantised_bytes(setting, spec.quantise[0])


def written(source: Checkpoint, kind: str) -> int:
    """Of the tensors of the file that would be written."""
    config = supported(source.config)
    weights = [*weights_of(source, config, architecture(config)), *rope_weights(config)]
    return sum(Planned(weight, FILE_KINDS[kind].type_of(weight.place)).tensor.nbytes for weight in weights)


@pytest.fixture
def checkpoint(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> Callable[..., Checkpoint]:
    return lambda model_type, **settings: Checkpoint.open(save_model(make_model(model_type, **settings)))


@pytest.mark.parametrize("model_type", WRITTEN)
def test_files_of_every_family(model_type: str, checkpoint: Callable[..., Checkpoint], tmp_path: Path) -> None:
    """Without the last two blocks: windows keep their period, and mixtures are as large in all that stay."""
    source = checkpoint(model_type, **WIDE, **OF_GGUF.get(model_type, {}))
    prune_depth(source, tmp_path / "pruned", drop=[2, 3])
    for kind in ("F16", "Q4_1", "Q4_K_M"):
        found = told(source, {"kind": "depth", "drop": [2, 3]}, {"kind": "gguf", "type": kind})
        assert found == written(Checkpoint.open(tmp_path / "pruned"), kind)


def test_every_kind_of_file(checkpoint: Callable[..., Checkpoint], tmp_path: Path) -> None:
    """Without some attentions, with Llama 3.1's divisors; which halves a search takes, it does not tell."""
    source = checkpoint("llama", num_hidden_layers=16, rope_parameters=LLAMA3, max_position_embeddings=512, **WIDE)
    drop = ["2.attention", "5.attention", "5.mlp", "9.attention"]
    prune_sub_block(source, tmp_path / "pruned", drop=drop)
    pruned = Checkpoint.open(tmp_path / "pruned")
    for kind in FILE_KINDS:
        way = {"kind": "gguf", "type": kind}
        assert told(source, {"kind": "sub_block", "drop": drop}, way) == written(pruned, kind)
        assert told(source, {"kind": "sub_block", "units": 2}, way) is None


@pytest.mark.parametrize("way", [{"kind": "int8"}, {"kind": "int4"}, {"kind": "int4", "group_size": 64}])
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gemma3_text"])
def test_integers(way: dict[str, Any], model_type: str, checkpoint: Callable[..., Checkpoint], tmp_path: Path) -> None:
    source = checkpoint(model_type, **WIDE)
    prune_depth(source, tmp_path / "pruned", drop=[1])
    bits, group = (8, None) if way["kind"] == "int8" else (4, way.get("group_size", 32))
    done = quantise_linear(Checkpoint.open(tmp_path / "pruned"), tmp_path / "out", bits=bits, group_size=group)
    assert told(source, {"kind": "depth", "drop": [1]}, way) == done.bytes


def test_narrower_blocks(checkpoint: Callable[..., Checkpoint], tmp_path: Path) -> None:
    source = checkpoint("llama", **WIDE)
    pruning = {"kind": "wanda_sp", "ratio": 0.3, "calibration": {"samples": 2, "tokens": 8}}
    options: Any = CompressionSpec.model_validate({"model": {"source": "local", "path": "m"}, "pruning": pruning})
    ids = torch.arange(16).view(2, 8)
    prune_width(source, tmp_path / "pruned", options=options.pruning, ids=ids, device="cpu", dtype=torch.float32)
    pruned = Checkpoint.open(tmp_path / "pruned")
    for kind in ("Q8_0", "Q4_K_M"):
        assert told(source, pruning, {"kind": "gguf", "type": kind}) == written(pruned, kind)
