"""Sums over tokens, and the change fitted from them, against numpy's least squares on whole matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from secateur.contract.errors import StageFailed
from workers.engine.healing import least_squares
from workers.engine.healing.least_squares import FittedChange, HeldOut, Sums, factor_in_place, fit_change, solve


def drawn(tokens: int, inputs: int, outputs: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """X, R, and weights of very different size."""
    generator = torch.Generator().manual_seed(seed)
    x, r = (torch.randn(tokens, size, generator=generator) for size in (inputs, outputs))
    return x, r, torch.rand(tokens, generator=generator) ** 4 + 1e-3


def fit(
    known: tuple[Tensor, Tensor, Tensor], unseen: tuple[Tensor, Tensor, Tensor], *, ridge: float | None = None
) -> FittedChange:
    sums, held = Sums(), HeldOut(torch.ones(known[1].shape[1]))
    for piece in zip(*(part.chunk(3) for part in known), strict=True):
        sums.add(*piece)
    for piece in zip(*(part.chunk(2) for part in unseen), strict=True):
        held.add(*piece)
    return fit_change(sums, held, ridge=ridge)


def test_the_change_is_that_of_weighted_least_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_squares, "AT_ONCE", 33)
    x, r, weights = drawn(400, 6, 4)
    other = drawn(90, 6, 4, seed=1)
    found = fit((x, r, weights), other, ridge=1e-13)
    root = weights.double().sqrt().numpy()[:, None]
    expected, *_ = np.linalg.lstsq(x.double().numpy() * root, r.double().numpy() * root)
    assert np.allclose(found.change.numpy(), expected, atol=1e-6)
    held_x, held_r, held_weights = (part.double().numpy() for part in other)
    for left, change in ((found.left_before, np.zeros((6, 4))), (found.left_after, expected)):
        oracle = ((held_r - held_x @ change) ** 2 * held_weights[:, None]).mean()
        assert left == pytest.approx(oracle, rel=1e-5)
    assert found.ridge == 1e-13


def test_the_ridge_holds_it_to_none() -> None:
    x, r, weights = drawn(200, 5, 3)
    ridge = 0.3
    found = fit((x, r, weights), (x, r, weights), ridge=ridge)
    whole, lacking, diagonal = x.double().numpy(), r.double().numpy(), np.diag(weights.double().numpy())
    gram = whole.T @ diagonal @ whole
    oracle = np.linalg.solve(gram + ridge * np.trace(gram) / 5 * np.eye(5), whole.T @ diagonal @ lacking)
    assert np.allclose(found.change.numpy(), oracle, atol=1e-7)


def test_noise_asks_for_a_strong_ridge_and_a_rule_for_a_weak_one() -> None:
    x, noise, _ = drawn(60, 30, 20)
    apart, more, _ = drawn(30, 30, 20, seed=1)
    ones, few = torch.ones(60), torch.ones(30)
    assert float(fit((x, noise, ones), (apart, more, few), ridge=1e9).change.abs().max()) < 1e-6
    found = fit((x, noise, ones), (apart, more, few))
    assert found.ridge >= 1
    assert found.left_after <= found.left_before * 1.01
    rule = torch.randn(30, 20, generator=torch.Generator().manual_seed(2))
    long, _, _ = drawn(2000, 30, 20)
    found = fit((long, long @ rule, torch.ones(2000)), (apart, apart @ rule, few))
    assert found.ridge == 1e-5
    assert torch.allclose(found.change, rule, atol=1e-2)


@pytest.mark.parametrize("size", [1, 5, 8, 11, 16])  # less than a panel, one, and parts of more
def test_the_factor_lies_below_the_sums_which_stay(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(least_squares, "PANEL", 8)
    x, right, _ = drawn(40, size, 3)
    gram = x.double().T @ x.double()
    kept = gram.clone()
    for shift in (0.5, 20.0, 0.5):  # the same matrix serves one ridge after the other
        assert factor_in_place(gram, kept.diagonal() + shift)
        whole = kept + shift * torch.eye(size)
        expected = torch.linalg.solve(whole, right[:size].double())
        assert torch.allclose(solve(gram, right[:size].double()), expected)
        assert torch.allclose(gram.tril(), torch.linalg.cholesky(whole))
        assert torch.equal(gram.triu(1), kept.triu(1))


def test_a_ridge_that_is_too_small_for_so_few_tokens_is_passed_over() -> None:
    x, r, weights = drawn(3, 40, 2)
    assert not factor_in_place(-torch.eye(3).double(), -torch.ones(3).double())
    found = fit((x, r, weights), drawn(9, 40, 2, seed=1))
    assert torch.isfinite(found.change).all()
    with pytest.raises(StageFailed, match="a greater `ridge` is needed"):
        fit((torch.zeros(3, 40), r, weights), (x, r, weights), ridge=-1.0)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_states_that_are_not_finite_are_told(bad: float) -> None:
    x, r, weights = drawn(10, 4, 4)
    for part in (x, r):
        broken = part.clone()
        broken[3, 1] = bad
        with pytest.raises(StageFailed, match="not finite"):
            fit((broken, r, weights) if part is x else (x, broken, weights), (x, r, weights))


def test_of_nothing_there_is_no_change() -> None:
    """A block whose projection gets nothing."""
    nothing = (torch.zeros(8, 3), torch.zeros(8, 3), torch.ones(8))
    assert torch.equal(fit(nothing, nothing).change, torch.zeros(3, 3))
