"""Sums over tokens, and the map fitted from them, against numpy's least squares on whole matrices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from secateur.contract.errors import StageFailed
from workers.engine.recovery import least_squares
from workers.engine.recovery.least_squares import Sums, fit_map, sums


def drawn(tokens: int, size: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """M, the target, and weights of very different size."""
    generator = torch.Generator().manual_seed(seed)
    m, target = (torch.randn(tokens, size, generator=generator) for _ in range(2))
    return m, target, torch.rand(tokens, generator=generator) ** 4 + 1e-3


def summed(m: Tensor, target: Tensor, weights: Tensor | None = None, pieces: int = 1) -> Sums:
    weights = torch.ones(len(m)) if weights is None else weights

    def cut() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        yield from zip(m.chunk(pieces), (target - m).chunk(pieces), weights.chunk(pieces), strict=True)

    return sums(cut())


def test_the_map_is_that_of_weighted_least_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_squares, "AT_ONCE", 33)
    m, target, weights = drawn(400, 6)
    other = drawn(90, 6, seed=1)
    found = fit_map(summed(m, target, weights, pieces=3), summed(*other), ridge=1e-13)
    root = weights.double().sqrt().numpy()[:, None]
    expected, *_ = np.linalg.lstsq(m.double().numpy() * root, target.double().numpy() * root)
    assert np.allclose(found.map.numpy(), expected, atol=1e-8)
    held_m, held_target, held_weights = (part.double().numpy() for part in other)
    for left, map in ((found.left_before, np.eye(6)), (found.left_after, expected)):
        oracle = ((held_target - held_m @ map) ** 2 * held_weights[:, None]).mean()
        assert left == pytest.approx(oracle)
    assert found.ridge == 1e-13


def test_the_ridge_holds_it_to_the_identity() -> None:
    m, target, weights = drawn(200, 5)
    ridge = 0.3
    found = fit_map(summed(m, target, weights), summed(m, target, weights), ridge=ridge)
    whole, wanted, diagonal = m.double().numpy(), target.double().numpy(), np.diag(weights.double().numpy())
    gram = whole.T @ diagonal @ whole
    unit = ridge * np.trace(gram) / 5
    oracle = np.eye(5) + np.linalg.solve(gram + unit * np.eye(5), whole.T @ diagonal @ (wanted - whole))
    assert np.allclose(found.map.numpy(), oracle, atol=1e-9)


def test_a_strong_ridge_leaves_things_as_they_are_and_noise_asks_for_one() -> None:
    m, noise, _ = drawn(60, 30)
    apart, more, _ = drawn(30, 30, seed=1)
    known, unseen = summed(m, m + noise), summed(apart, apart + more)
    assert torch.allclose(fit_map(known, unseen, ridge=1e9).map, torch.eye(30, dtype=torch.float64), atol=1e-6)
    found = fit_map(known, unseen)
    assert found.ridge >= 1
    assert found.left_after <= found.left_before * 1.01
    rule = torch.randn(30, 30, generator=torch.Generator().manual_seed(2))
    long, _, _ = drawn(2000, 30)
    found = fit_map(summed(long, long @ rule), summed(apart, apart @ rule))
    assert found.ridge == 1e-5
    assert torch.allclose(found.map, rule.double(), atol=1e-2)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_states_that_are_not_finite_are_told(bad: float) -> None:
    m, target, weights = drawn(10, 4)
    target[3, 1] = bad
    with pytest.raises(StageFailed, match="not finite"):
        summed(m, target, weights)


def test_of_nothing_the_map_is_the_identity() -> None:
    """A block that adds nothing."""
    nothing = summed(torch.zeros(8, 3), torch.zeros(8, 3))
    found = fit_map(nothing, nothing)
    assert torch.equal(found.map, torch.eye(3, dtype=torch.float64))
