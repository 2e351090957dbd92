"""Adapters computed in fewer passes, held against peft's own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.options.recovery import LoraRecovery
from workers.engine.recovery.lora import add_adapters
from workers.engine.recovery.quick_adapters import dropped, quick_adapters

FAMILIES = ["llama", "gpt2", "falcon"]  # linear maps, Conv1D, and a fused projection


def adapted(model: PreTrainedModel, **options: Any) -> PeftModel:
    """A model whose adapters are away from zero, as after some training."""
    peft_model = add_adapters(model, LoraRecovery(rank=4, **options), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in trained(peft_model).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return peft_model.train()


def trained(model: PeftModel) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def loss_and_gradients(model: PeftModel, ids: Tensor, *, quick: bool) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    torch.manual_seed(3)  # for the model's own dropout
    with quick_adapters(model) if quick else nullcontext():
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in trained(model).items()}  # type: ignore[union-attr]  # all have one


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_loss_and_gradients_are_those_of_peft(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], family: str, rank_stabilised: bool
) -> None:
    model = adapted(make_model(family), dropout=0.0, rank_stabilised=rank_stabilised)
    expected, gradients = loss_and_gradients(model, make_ids(), quick=False)
    found, ours = loss_and_gradients(model, make_ids(), quick=True)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours, gradients)


def test_adapters_in_fp32_on_a_base_in_bf16(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model = adapted(make_model().bfloat16(), dropout=0.0)
    expected, gradients = loss_and_gradients(model, make_ids(), quick=False)
    found, ours = loss_and_gradients(model, make_ids(), quick=True)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    for name, gradient in gradients.items():
        assert (ours[name] - gradient).norm() <= 0.05 * gradient.norm() + 1e-6, name


def test_a_variant_of_lora_stays_as_peft_has_it(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model = adapted(make_model(), dropout=0.0, dora=True)
    variants = [layer.lora_variant["default"] for layer in model.modules() if isinstance(layer, LoraLayer)]
    assert variants
    with quick_adapters(model):
        assert [layer.lora_variant["default"] for layer in model.modules() if isinstance(layer, LoraLayer)] == variants
    expected, _ = loss_and_gradients(model, make_ids(), quick=False)
    torch.testing.assert_close(loss_and_gradients(model, make_ids(), quick=True)[0], expected)


def test_peft_has_its_layers_back_afterwards(make_model: Callable[..., PreTrainedModel]) -> None:
    model = adapted(make_model(), dropout=0.1)
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    with quick_adapters(model):
        assert all(layer.lora_variant for layer in layers)
    assert not any(layer.lora_variant for layer in layers)


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_dropout_drops_its_share_and_scales_the_rest(rate: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(7, 101, 143, requires_grad=True)  # no multiple of what one draw decides about
    out = dropped(x, rate)
    share = float((out == 0).double().mean())
    assert share == pytest.approx(rate, abs=5 * (rate * (1 - rate) / x.numel()) ** 0.5)
    kept = out.detach()[out != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=1e-4, atol=0)
    (gradient,) = torch.autograd.grad(3 * out.sum(), x)
    torch.testing.assert_close(gradient, 3 * out.detach())


def test_dropout_is_independent_from_number_to_number() -> None:
    torch.manual_seed(0)
    out = dropped(torch.ones(400_000), 0.5) == 0
    for distance in (1, 2, 3, 4, 8):
        both = float((out[distance:] & out[:-distance]).double().mean())
        assert both == pytest.approx(0.25, abs=0.005), distance


def test_dropout_follows_the_seed() -> None:
    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return dropped(torch.ones(1000), 0.3)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_a_rate_next_to_one_leaves_finite_numbers() -> None:
    torch.manual_seed(0)
    assert torch.isfinite(dropped(torch.ones(100_000), 1 - 1e-9)).all()


def test_nothing_is_dropped_in_evaluation(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model = adapted(make_model(), dropout=0.5).eval()
    with torch.no_grad():
        expected = model(make_ids()).logits
        with quick_adapters(model):
            torch.testing.assert_close(model(make_ids()).logits, expected)
