"""Adapters on every family, merged into the files on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from secateur.contract.options.recovery import LoraRecovery
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import load_model
from workers.engine.recovery.lora import add_adapters, projections, save_adapter, write_merged
from workers.engine.runtime import Machine

CPU = Machine(torch.device("cpu"), torch.float32, 1, 0)
OPTIONS = LoraRecovery(rank=4, dropout=0)


def disturb(model: PeftModel) -> None:
    """Adapters as after a training: both halves away from zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)


def stored(path: Path) -> dict[str, Tensor]:
    found = {}
    for file in path.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            found.update({name: tensors.get_tensor(name) for name in tensors.keys()})  # noqa: SIM118  # no mapping
    return found


def test_merged_weights_compute_what_the_adapters_did(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    family: str,
    tmp_path: Path,
) -> None:
    source = save_model(make_model(family), max_shard_size="60KB")
    model = add_adapters(load_model(Checkpoint.open(source), device=CPU.device, dtype=CPU.dtype), OPTIONS, seed=1)
    disturb(model)
    model.eval()
    with torch.no_grad():
        expected = model(make_ids()).logits
        plain = load_model(Checkpoint.open(source), device=CPU.device, dtype=CPU.dtype)(make_ids()).logits
    write_merged(model, Checkpoint.open(source), tmp_path / "merged")
    both: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", output_loading_info=True)
    loaded, report = both
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        merged = loaded(make_ids()).logits
    assert torch.allclose(merged, expected, atol=2e-4)
    assert not torch.allclose(merged, plain, atol=1e-2)
    before, after = stored(source), stored(tmp_path / "merged")
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in before.items()} == {
        name: (tensor.shape, tensor.dtype) for name, tensor in after.items()
    }
    assert (source / "config.json").read_bytes() == (tmp_path / "merged" / "config.json").read_bytes()


def test_all_seven_projections_of_each_llama_block_are_found(make_model: Callable[..., PreTrainedModel]) -> None:
    found = projections(make_model("llama"))
    assert len(found) == 4 * 7
    assert {name.rpartition(".")[2] for name in found} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip


def test_adapters_are_fp32_and_the_only_thing_trained_while_the_base_is_bf16(
    make_model: Callable[..., PreTrainedModel],
) -> None:
    model = add_adapters(make_model().bfloat16(), OPTIONS, seed=0)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name and p.dtype is torch.float32 for name, p in trained.items())
    assert len(trained) == 4 * 7 * 2
    assert all(p.dtype is torch.bfloat16 for name, p in model.named_parameters() if name not in trained)


def test_a_merged_weight_is_rounded_once_to_the_dtype_on_disk(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path], tmp_path: Path
) -> None:
    source = save_model(make_model().bfloat16())
    model = add_adapters(load_model(Checkpoint.open(source), device=CPU.device, dtype=torch.bfloat16), OPTIONS, seed=1)
    disturb(model)
    name = "model.layers.2.mlp.down_proj"
    layer = model.get_base_model().get_submodule(name)
    expected = stored(source)[f"{name}.weight"].float() + layer.get_delta_weight("default")  # type: ignore[operator]
    write_merged(model, Checkpoint.open(source), tmp_path / "merged")
    after = stored(tmp_path / "merged")
    assert torch.equal(after[f"{name}.weight"], expected.to(torch.bfloat16))
    assert torch.equal(after["model.embed_tokens.weight"], stored(source)["model.embed_tokens.weight"])
    assert "lm_head.weight" not in after  # tied, as it was


def test_the_adapter_loads_on_the_pruned_model_and_names_no_path(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    source = save_model(make_model())
    model = add_adapters(load_model(Checkpoint.open(source), device=CPU.device, dtype=CPU.dtype), OPTIONS, seed=1)
    disturb(model)
    save_adapter(model, tmp_path / "adapter")
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    assert weights.stat().st_mode & 0o777 == 0o644, "another account serves it"
    assert str(tmp_path) not in (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] == 4
    again = PeftModel.from_pretrained(
        load_model(Checkpoint.open(source), device=CPU.device, dtype=CPU.dtype), tmp_path / "adapter"
    )
    model.eval()
    again.eval()
    with torch.no_grad():
        assert torch.equal(again(make_ids()).logits, model(make_ids()).logits)


@pytest.mark.parametrize("seed", [0, 1])
def test_adapters_begin_as_nothing_and_by_the_seed(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], seed: int
) -> None:
    plain = make_model()
    with torch.no_grad():
        expected = plain(make_ids()).logits
    first = add_adapters(make_model(), OPTIONS, seed=seed)
    second = add_adapters(make_model(), OPTIONS, seed=seed)
    first.eval()
    with torch.no_grad():
        assert torch.allclose(first(make_ids()).logits, expected, atol=1e-6)
    pairs = zip(first.named_parameters(), second.named_parameters(), strict=True)
    assert all(torch.equal(a, b) for (_, a), (_, b) in pairs)
