"""The arithmetic of drafts, against a simulation of what is proposed and accepted."""

from __future__ import annotations

import random

import pytest

from secateur.contract.drafts import (
    DraftOutlook,
    best_tokens,
    draft_speedup,
    least_acceptance,
    tokens_per_pass,
)


def simulated(acceptance: float, tokens: int, *, passes: int, seed: int) -> tuple[float, float]:
    """Tokens a pass, and its standard error: each proposed token is taken by the throw of a die, until one is not."""
    die = random.Random(seed)
    yields = []
    for _ in range(passes):
        taken = 0
        while taken < tokens and die.random() < acceptance:
            taken += 1
        yields.append(taken + 1)
    mean = sum(yields) / passes
    spread = sum((one - mean) ** 2 for one in yields) / (passes - 1)
    return mean, (spread / passes) ** 0.5


@pytest.mark.parametrize("acceptance", [0.1, 0.62, 0.74, 0.95])
@pytest.mark.parametrize("tokens", [1, 5, 12])
def test_tokens_of_a_pass_are_those_of_a_simulation(acceptance: float, tokens: int) -> None:
    mean, error = simulated(acceptance, tokens, passes=20_000, seed=tokens)
    assert tokens_per_pass(acceptance, tokens) == pytest.approx(mean, abs=5 * error)


@pytest.mark.parametrize("acceptance", [0.2, 0.7, 0.99])
def test_the_formula_is_the_papers(acceptance: float) -> None:
    tokens, cost = 4, 0.3
    written = (1 - acceptance ** (tokens + 1)) / ((1 - acceptance) * (tokens * cost + 1))
    assert draft_speedup(acceptance, tokens, cost) == pytest.approx(written)
    assert draft_speedup(acceptance, tokens, cost, verification=2) == pytest.approx(
        written * (tokens * cost + 1) / (tokens * cost + 2)
    )
    assert draft_speedup(1.0, tokens, cost) == pytest.approx(5 / 2.2), "where the written form has no value"


def test_from_the_least_acceptance_on_it_pays() -> None:
    for tokens in (1, 3, 8):
        for cost in (0.02, 0.3, 0.8):
            least = least_acceptance(tokens, cost)
            assert least is not None
            assert draft_speedup(least, tokens, cost) == pytest.approx(1, abs=1e-6)
            assert draft_speedup(least - 0.01, tokens, cost) < 1
    assert least_acceptance(1, 0.4) == pytest.approx(0.4), "with one token at a time, acceptance has to beat cost"
    assert least_acceptance(3, 1.2) is None


def test_the_best_number_of_tokens_is_the_best() -> None:
    for acceptance, cost in ((0.6, 0.05), (0.8, 0.2), (0.9, 0.01)):
        best = best_tokens(acceptance, cost)
        near = [draft_speedup(acceptance, tokens, cost) for tokens in (max(1, best - 1), best, best + 1)]
        assert max(near) == near[1]


@pytest.mark.parametrize(
    ("cost", "pays", "said"),
    [
        (0.06, True, "It pays above an acceptance of 23 %."),
        (0.8, False, "It would pay above an acceptance of 92.7 %."),
        (1.0, False, "It cannot pay, whatever is accepted."),
    ],
)
def test_what_is_told_beforehand(cost: float, pays: bool, said: str) -> None:
    outlook = DraftOutlook(tokens=5, cost=cost)
    assert outlook.pays is pays
    assert said in outlook.told
    assert outlook.told.startswith("This draft is not expected to pay. ") is not pays
    assert "no acceptance was measured yet" in outlook.told
    low, high = outlook.speedups
    assert (low, high) == (draft_speedup(0.6, 5, cost), draft_speedup(0.8, 5, cost))


def test_a_fifth_pruned_off_its_own_target_cannot_pay_at_any_number_of_tokens() -> None:
    assert [round(draft_speedup(acceptance, 1, 0.8), 2) for acceptance in (0.62, 0.74)] == [0.9, 0.97]
    assert best_tokens(0.74, 0.8) == 1
    assert "With 1 token at a time, its best, it is 0.889× to 1.00×." in DraftOutlook(5, 0.8).told
