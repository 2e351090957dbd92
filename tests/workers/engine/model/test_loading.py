"""Loading a checkpoint: the model of its config and weights, whatever else lies in the folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import BadCheckpoint
from workers.engine.checkpoints.check_fit import check_fit
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import load_model
from workers.engine.pruning.depth import prune_depth

CPU = torch.device("cpu")


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def logits(folder: Path, ids: Tensor) -> Tensor:
    model: Any = load_model(Checkpoint.open(folder), device=CPU, dtype=torch.float32)
    with torch.no_grad():
        found: Tensor = model(ids).logits
    return found


@pytest.mark.parametrize("shards", ["1GB", "20KB"])
def test_an_adapter_beside_the_weights_is_not_put_on_them(
    shards: str,
    make_model: Callable[..., PreTrainedModel],
    save_model: Callable[..., Path],
    make_ids: Callable[..., Tensor],
    tmp_path: Path,
) -> None:
    folder, ids = save_model(make_model(), max_shard_size=shards), make_ids()
    expected = logits(folder, ids)
    adapted: Any = get_peft_model(make_model(), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter))
    adapted.save_pretrained(tmp_path / "adapter")
    for file in (tmp_path / "adapter").glob("adapter_*"):
        file.rename(folder / file.name)
    assert torch.equal(logits(folder, ids), expected)
    prune_depth(Checkpoint.open(folder), tmp_path / "pruned", drop=[1])
    assert not list((tmp_path / "pruned").glob("adapter_*"))


@pytest.mark.parametrize(
    "changes",
    [
        {"_attn_implementation": "flash_attention_2"},
        {"attn_implementation": "flash_attention_3"},
        {"_attn_implementation_internal": "flash_attention_2"},
        {"_experts_implementation": "no_such_kernel"},
        {"configuration_files": ["config.1.0.0.json"]},
        {"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}},
    ],
)
def test_what_the_config_says_of_another_machine_is_left_aside(
    changes: dict[str, Any],
    make_model: Callable[..., PreTrainedModel],
    save_model: Callable[..., Path],
    make_ids: Callable[..., Tensor],
    tmp_path: Path,
) -> None:
    folder, ids = save_model(make_model()), make_ids()
    (folder / "config.1.0.0.json").write_text('{"model_type": "gpt2"}')
    expected = logits(folder, ids)
    edit(folder, **changes)
    check_fit(Checkpoint.open(folder))
    assert torch.equal(logits(folder, ids), expected)
    view = BlockModel.from_checkpoint(Checkpoint.open(folder), device="cpu", dtype=torch.float32)
    state = view.embed(ids)
    with torch.no_grad():
        for block in view.blocks():
            state = block(state)
        assert torch.allclose(view.head(state), expected, atol=1e-5)
    prune_depth(Checkpoint.open(folder), tmp_path / "pruned", drop=[1])
    assert not changes.keys() & json.loads((tmp_path / "pruned" / "config.json").read_text()).keys()


def test_a_mistral_with_kinds_of_layers_is_what_transformers_makes_of_it(
    make_model: Callable[..., PreTrainedModel],
    save_model: Callable[..., Path],
    make_ids: Callable[..., Tensor],
    tmp_path: Path,
) -> None:
    folder, ids = save_model(make_model("mistral")), make_ids()
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    edit(folder, layer_types=kinds, sliding_window=3)
    expected = logits(folder, ids)
    view = BlockModel.from_checkpoint(Checkpoint.open(folder), device="cpu", dtype=torch.float32)
    state = view.embed(ids)
    with torch.no_grad():
        for block in view.blocks():
            state = block(state)
        assert torch.allclose(view.head(state), expected, atol=1e-5)
    prune_depth(Checkpoint.open(folder), tmp_path / "pruned", drop=[1])
    config = json.loads((tmp_path / "pruned" / "config.json").read_text())
    assert config["layer_types"] == [kinds[0], *kinds[2:]]


def test_weights_of_another_shape_are_told_as_a_broken_checkpoint(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    folder = save_model(make_model())
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(31)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadCheckpoint, match="cannot be loaded") as caught:
        load_model(Checkpoint.open(folder), device=CPU, dtype=torch.float32)
    assert caught.value.errors[0].pointer == "model"
