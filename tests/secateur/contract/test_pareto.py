"""Which points are dominated, against a plain definition."""

from __future__ import annotations

import itertools
import random

import pytest

from secateur.contract.intervals import Estimate
from secateur.contract.pareto import Dominated, Pair, apart, dominated


def pair(place: int, x: float, y: float, spread: float = 0.0) -> Pair:
    return Pair(place, Estimate(x, x - spread, x + spread), Estimate(y, y - spread, y + spread))


@pytest.mark.parametrize("higher", list(itertools.product([True, False], repeat=2)))
def test_the_front_is_what_no_other_is_better_than_in_both(higher: tuple[bool, bool]) -> None:
    drawn = random.Random(7)
    pairs = [pair(place, drawn.randint(0, 9), drawn.randint(0, 9)) for place in range(60)]
    signs = [1 if up else -1 for up in higher]

    def worth(one: Pair) -> tuple[float, float]:
        return signs[0] * one.x.value, signs[1] * one.y.value

    plain = {
        one.place
        for one in pairs
        if not any(
            worth(other) != worth(one) and all(a >= b for a, b in zip(worth(other), worth(one), strict=True))
            for other in pairs
        )
    }
    worse = dominated(pairs, higher=higher)
    assert plain
    assert {one.place for one in pairs} - worse.keys() == plain
    by_place = {one.place: one for one in pairs}
    for place, by in worse.items():
        assert all(a >= b for a, b in zip(worth(by_place[by.by]), worth(by_place[place]), strict=True))


def test_equal_points_are_both_on_the_front() -> None:
    assert dominated([pair(0, 1, 1), pair(1, 1, 1)], higher=(True, False)) == {}


def test_what_intervals_do_not_show_is_said_to_be_noise() -> None:
    better, worse = pair(0, 1.30, 0.30, 0.05), pair(1, 1.25, 0.36, 0.05)
    assert dominated([better, worse], higher=(True, False)) == {1: Dominated(0, shown=False)}
    far = pair(2, 1.25, 0.60, 0.05)
    assert dominated([better, far], higher=(True, False)) == {2: Dominated(0, shown=True)}
    assert dominated([worse, better, far], higher=(True, False))[2] == Dominated(1, shown=True)


def test_without_intervals_nothing_is_shown() -> None:
    one, other = Pair(0, Estimate(2), Estimate(1)), Pair(1, Estimate(1), Estimate(2))
    assert dominated([one, other], higher=(True, False)) == {1: Dominated(0, shown=False)}
    assert not apart(Estimate(1, 0.9, 1.1), Estimate(9))


def test_the_one_that_is_shown_to_be_better_is_named() -> None:
    near, far, worse = pair(0, 1.26, 0.35, 0.05), pair(1, 1.6, 0.1, 0.05), pair(2, 1.25, 0.36, 0.05)
    assert dominated([near, far, worse], higher=(True, False))[2] == Dominated(1, shown=True)
