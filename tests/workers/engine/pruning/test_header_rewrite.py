"""What a header says beside its tensors, when some of them go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from secateur.contract.errors import BadCheckpoint
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.pruning.depth import prune_depth

Make = Callable[..., PreTrainedModel]
Save = Callable[..., Path]


def test_what_a_header_says_of_tensors_follows_them(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    """torchao writes of what kind each weight is, by its name, into the header, and there is no tensor of that name."""
    source = save_model(make_model("llama"))
    tensors = load_file(source / "model.safetensors")
    weights = [f"model.layers.{block}.mlp.up_proj.weight" for block in range(4)]
    for name in weights:
        tensors[f"{name.removesuffix('weight')}_weight_qdata"] = tensors.pop(name).to(torch.int8)
    kinds = {name: json.dumps({"_type": "Int8Tensor", "block": block}) for block, name in enumerate(weights)}
    names = json.dumps([*weights, "model.norm.weight"])
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt", "tensor_names": names, **kinds})
    prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[1])
    with safe_open(tmp_path / "pruned" / "model.safetensors", framework="pt") as file:
        written = file.metadata()
    assert json.loads(written.pop("tensor_names")) == [*weights[:3], "model.norm.weight"]
    assert written.pop("format") == "pt"
    assert {name: json.loads(kind)["block"] for name, kind in written.items()} == dict(
        zip(weights[:3], [0, 2, 3], strict=True)
    )


def test_a_header_whose_list_of_tensors_is_none(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    source = save_model(make_model("llama"))
    tensors = load_file(source / "model.safetensors")
    for broken in ("[", "3", "[1]"):
        save_file(tensors, source / "model.safetensors", metadata={"tensor_names": broken})
        with pytest.raises(BadCheckpoint, match="tensor_names of the header is no list of tensors"):
            prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[1])
