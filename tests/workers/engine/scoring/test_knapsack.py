"""The knapsack against every choice tried one by one."""

from __future__ import annotations

import random
from itertools import product

import pytest

from workers.engine.scoring.knapsack import Option, least_loss


def _by_trying(groups: list[list[Option]], needed: int, changes: int) -> float | None:
    losses = [
        sum(option.loss for option in choice)
        for choice in product(*groups)
        if sum(option.saved for option in choice) >= needed and sum(option.changes for option in choice) == changes
    ]
    return min(losses, default=None)


@pytest.mark.parametrize("seed", range(8))
def test_the_choice_is_the_best_of_all(seed: int) -> None:
    draw = random.Random(seed)
    groups = [
        [Option(0, 0.0), *(Option(draw.randint(1, 9), draw.uniform(-0.2, 1), draw.randint(0, 1)) for _ in range(3))]
        for _ in range(5)
    ]
    for needed in (1, 12, 30):
        found = least_loss(groups, needed, changes=2)
        for changes in range(3):
            best = _by_trying(groups, needed, changes)
            assert (changes in found) == (best is not None)
            if best is not None:
                chosen = [group[place] for group, place in zip(groups, found[changes], strict=True)]
                assert sum(option.loss for option in chosen) == pytest.approx(best)
                assert sum(option.saved for option in chosen) >= needed
                assert sum(option.changes for option in chosen) == changes


def test_what_does_not_save_enough_is_nothing() -> None:
    assert least_loss([[Option(0, 0.0), Option(3, 1.0)]], 4) == {}
    assert least_loss([[Option(0, 0.0), Option(3, 1.0)]], 3) == {0: (1,)}


def test_of_equal_choices_the_first_is_taken() -> None:
    assert least_loss([[Option(1, 0.5), Option(1, 0.5)], [Option(2, 0.0), Option(2, 0.0)]], 3) == {0: (0, 0)}
