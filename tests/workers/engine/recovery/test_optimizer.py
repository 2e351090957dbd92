"""The schedule, what decays, and clipping, against torch's and transformers' own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.optimization import get_scheduler

from workers.engine.recovery.optimizer import clip, learning_rate, make_optimizer, set_learning_rate
from workers.engine.recovery.training_settings import TrainingSettings

SETTINGS = TrainingSettings(
    learning_rate=3e-4, batch_size=4, micro_batch_size=2, epochs=1, warmup_steps=3, checkpoint_steps=3, weight_decay=0.1
)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (0, 7), (3, 4), (5, 40)])
def test_the_learning_rate_is_that_of_transformers(
    schedule: Literal["linear", "cosine"], warmup: int, steps: int
) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=SETTINGS.learning_rate)
    theirs = get_scheduler(schedule, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    settings = replace(SETTINGS, schedule=schedule, warmup_steps=warmup)
    for step in range(steps):
        assert learning_rate(step, steps, settings) == theirs.get_last_lr()[0]
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_matrices_decay_and_norms_and_biases_do_not(make_model: Callable[..., PreTrainedModel], family: str) -> None:
    model = make_model(family)
    optimizer = make_optimizer(model, SETTINGS)
    decay = {id(each): group["weight_decay"] for group in optimizer.param_groups for each in group["params"]}
    for name, parameter in model.named_parameters():
        plain = "norm" in name or "ln_" in name or name.endswith("bias")
        assert decay.pop(id(parameter)) == (0.0 if plain else 0.1), name
    assert not decay


def test_only_what_requires_a_gradient_is_trained_at_the_rate_that_was_set() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    optimizer = make_optimizer(model, SETTINGS)
    set_learning_rate(optimizer, 0.5)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


@pytest.mark.parametrize("most", [0.1, 100.0])
def test_gradients_are_scaled_to_the_norm_where_theirs_is_larger(most: float) -> None:
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    parameters: list[Any] = [nn.Parameter(torch.zeros_like(each)) for each in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    assert float(clip([*parameters, nn.Parameter(torch.zeros(1))], most)) == pytest.approx(5.0)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert torch.allclose(parameter.grad, gradient * min(1.0, most / 5))
