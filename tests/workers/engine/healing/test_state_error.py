"""The error of a state: relative by token and by channel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workers.engine.healing.state_error import ChannelScale


def test_a_channel_that_owns_the_square_does_not_own_the_error() -> None:
    """In Gemma 3 270M one channel of 640 has 85 % of the mean square of a state."""
    target = torch.randn(4, 80, 6, generator=torch.Generator().manual_seed(0))
    target[..., 2] = 1000 + 30 * target[..., 2]
    scale = ChannelScale.of(target.chunk(3))
    rows = target.double().flatten(0, 1)
    weights = 1 / rows.square().mean(1, keepdim=True)
    mean = (weights * rows).sum(0) / weights.sum()
    oracle = 1 / ((weights * (rows - mean).square()).sum(0) / weights.sum())
    assert torch.allclose(scale.weights.double(), oracle / oracle.mean(), rtol=1e-5)
    wrong = [float(scale.error(_shifted(target, channel), target)) for channel in (2, 3)]
    assert wrong[0] == pytest.approx(wrong[1], rel=0.3)  # each by a third of what the channel varies
    assert float(scale.error(torch.zeros_like(target), target)) == pytest.approx(1)
    assert float(scale.error(target, target)) == 0


def _shifted(target: Tensor, channel: int) -> Tensor:
    shifted = target.clone()
    shifted[..., channel] += target[..., channel].std() / 3
    return shifted


def test_a_token_that_owns_the_square_does_not_own_the_error() -> None:
    target = torch.randn(2, 10, 6, generator=torch.Generator().manual_seed(0))
    target[:, 0] *= 1000
    scale = ChannelScale.of([target])
    off = target.clone()
    off[:, 0] = 0
    assert float(scale.error(off, target)) == pytest.approx(0.1)
    plain = target.double().flatten(0, 1)
    oracle = 1 / (plain.square() * scale.weights.double()).mean(1)
    assert torch.allclose(scale.token_weights(target.flatten(0, 1)), oracle)


def test_a_dead_channel_and_a_dead_token_do_no_harm() -> None:
    target = torch.randn(2, 10, 6, generator=torch.Generator().manual_seed(0))
    target[..., 1] = 0
    target[0, 3] = 0
    scale = ChannelScale.of([target])
    assert torch.isfinite(scale.weights).all()
    off = target + 1e-3
    assert torch.isfinite(scale.error(off[1], target[1]))
    assert ChannelScale.of([torch.zeros(1, 4, 3)]).weights.tolist() == [1, 1, 1]
