"""Checkpoints with integer weights: plain transformers loads them, and computes what the integers say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPTBigCodeConfig, GPTBigCodeForCausalLM, PreTrainedModel

from secateur.contract.errors import InvalidInput, UnsupportedModel
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import load_model
from workers.engine.quantise.integers import round_to_integers
from workers.engine.quantise.linear_weights import quantise_linear, targets_of

CPU = torch.device("cpu")


@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (8, 16), (4, 16)])
@pytest.mark.parametrize("shards", ["20KB", "1GB"])
def test_transformers_computes_with_the_rounded_weights(
    bits: int,
    group_size: int | None,
    shards: str,
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    model: Any = make_model("llama", intermediate_size=64)
    outcome = quantise_linear(
        Checkpoint.open(save_model(model, max_shard_size=shards)),
        tmp_path / "quantised",
        bits=bits,
        group_size=group_size,
    )
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                rounded = round_to_integers(module.weight, bits=bits, group_size=group_size, scale_dtype=torch.bfloat16)
                size = group_size or module.in_features
                scales = rounded.scales.float().repeat_interleave(size, dim=1)
                module.weight.copy_(rounded.values.float() * scales)
        ids = make_ids()
        expected = model(ids).logits
        plain: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "quantised", dtype=torch.float32)
        ours: Any = load_model(Checkpoint.open(tmp_path / "quantised"), device=CPU, dtype=torch.float32)
        assert torch.allclose(plain(ids).logits, expected, atol=1e-5)
        assert torch.equal(ours(ids).logits, plain(ids).logits)
        rounded_maps = [module for module in ours.modules() if hasattr(module, "quantization_scheme")]
        assert rounded_maps
        assert not any("forward" in vars(module) for module in rounded_maps)  # none rounds its weights at every call
    assert BlockModel.from_model(ours).dtype == torch.float32
    scale_bits = 16 / (group_size or 32)  # rows of 32 and of 64
    assert bits < outcome.bits_per_weight <= bits + scale_bits
    assert outcome.quantised_parameters + outcome.other_parameters == sum(p.numel() for p in model.parameters())
    assert outcome.bytes == Checkpoint.open(tmp_path / "quantised").total_bytes
    assert 0 < outcome.relative_error < (0.02 if bits == 8 else 0.15)


@pytest.mark.parametrize("model_type", ["qwen2", "phi3", "gemma2", "gpt_neox", "opt"])
def test_other_families(
    model_type: str,
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    model: Any = make_model(model_type)
    quantise_linear(Checkpoint.open(save_model(model)), tmp_path / "quantised", bits=8, group_size=None)
    loaded: Any = load_model(Checkpoint.open(tmp_path / "quantised"), device=CPU, dtype=torch.float32)
    with torch.no_grad():
        ids = make_ids()
        before, after = model(ids).logits, loaded(ids).logits
    assert not torch.equal(before, after)
    assert float((after - before).std()) < 0.1 * float(before.std())


def test_what_cannot_be_quantised_is_refused_before_anything_is_written(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path], tmp_path: Path
) -> None:
    llama = save_model(make_model("llama"))  # rows of 32 and of 48
    with pytest.raises(InvalidInput, match="48 weights, which is no multiple of 32") as caught:
        quantise_linear(Checkpoint.open(llama), tmp_path / "new", bits=4, group_size=32)
    assert caught.value.errors[0].pointer == "group_size"
    with pytest.raises(UnsupportedModel, match="most of its weights elsewhere"):
        quantise_linear(
            Checkpoint.open(save_model(make_model("mixtral"), name="moe")), tmp_path / "new", bits=4, group_size=16
        )
    with pytest.raises(UnsupportedModel, match="most of its weights elsewhere"):
        quantise_linear(
            Checkpoint.open(save_model(make_model("gpt2"), name="gpt2")), tmp_path / "new", bits=8, group_size=None
        )
    quantise_linear(Checkpoint.open(llama), tmp_path / "once", bits=8, group_size=None)
    with pytest.raises(UnsupportedModel, match="quantised already"):
        targets_of(Checkpoint.open(tmp_path / "once"), group_size=None)
    assert not (tmp_path / "new").exists()


def test_a_family_whose_class_cannot_load_packed_layers_is_refused(
    save_model: Callable[..., Path],
) -> None:
    """GPT-BigCode's class sets up the projections of each block by name, and the packed ones have no weight."""
    config = GPTBigCodeConfig(vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    source = Checkpoint.open(save_model(GPTBigCodeForCausalLM(config)))
    with pytest.raises(UnsupportedModel, match="packed") as caught:
        targets_of(source, group_size=None)
    assert caught.value.errors[0].pointer == "kind"
