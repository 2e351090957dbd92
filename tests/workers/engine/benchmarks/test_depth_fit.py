"""The line through depths that were timed: against least squares by numpy, and on times that lie on a line."""

from __future__ import annotations

import numpy as np
import pytest

from secateur.contract.measurements import Interval
from workers.engine.benchmarks.depth_fit import (
    MovedLine,
    TimedPair,
    estimated,
    evenly,
    least_depth,
    measured,
    predicted,
    shares,
    trial_depths,
)
from workers.engine.benchmarks.size_fit import fitted

NO_NOISE = Interval(median=1, low=1, high=1)
BLOCKS = 30


def pair(removed: int, *, rounds: int = 6, noise: float = 0.0, same: Interval = NO_NOISE) -> TimedPair:
    """Of a model whose time is 1 + 0.1 · blocks, on a machine that is slower in every round than in the one before."""
    generator = np.random.default_rng(removed)
    slow = [1 + 0.2 * turn for turn in range(rounds)]
    return TimedPair(
        removed,
        [(1 + 0.1 * BLOCKS) * times for times in slow],
        [(1 + 0.1 * (BLOCKS - removed)) * times * (1 + noise * generator.normal()) for times in slow],
        same,
    )


def speedup(seconds: float, ratio: float) -> float:
    return 1 / ratio


def test_a_line_is_found_whatever_slows_the_machine() -> None:
    pairs = [pair(removed) for removed in (8, 16, 24)]
    assert shares(pairs) == pytest.approx([0.1 / 4] * 6)
    for removed in (1, 7, 24):
        found = predicted(pairs, removed, speedup)
        assert (found.low, found.median, found.high) == pytest.approx([4 / (4 - 0.1 * removed)] * 3)


def test_each_rounds_share_is_the_slope_of_least_squares() -> None:
    pairs = [pair(removed, noise=0.05) for removed in (3, 9, 20)]
    for turn, share in enumerate(shares(pairs)):
        removed = np.array([[one.removed] for one in pairs])
        lost = np.array([1 - one.ratios[turn] for one in pairs])
        assert share == pytest.approx(np.linalg.lstsq(removed, lost, rcond=None)[0][0])


def test_noise_makes_an_interval_that_holds_what_is_true() -> None:
    pairs = [pair(removed, rounds=12, noise=0.03) for removed in (8, 16, 24)]
    found = predicted(pairs, 10, speedup)
    assert found.low < 4 / 3 < found.high
    assert found.low < found.median < found.high
    assert estimated(pairs, 10, speedup) == pytest.approx(found.median)


def test_what_the_original_differs_from_itself_widens_it() -> None:
    drifting = Interval(median=1.1, low=1.05, high=1.15)
    found = predicted([pair(8), pair(16, same=drifting)], 10, speedup)
    assert (found.low, found.high) == pytest.approx((4 / 3 / 1.05, 4 / 3 * 1.05))
    own = measured(pair(10, same=drifting), speedup)
    assert (own.low, own.high) == pytest.approx((4 / 3 / 1.05, 4 / 3 * 1.05))


def test_a_prediction_makes_no_time_of_nothing() -> None:
    instant = TimedPair(1, [1.0] * 3, [0.1] * 3, NO_NOISE)
    assert predicted([instant], 20, speedup).median == pytest.approx(1000)


@pytest.mark.parametrize("inverse", [True, False], ids=["speed", "time"])
def test_a_moved_line_has_the_fits_slope_and_goes_through_what_was_measured(inverse: bool) -> None:
    """Held against shares of the original's time that are counted out: 0.8 of it without 3 blocks, 0.1 a block."""
    original = 50.0
    shares_there = {"median": 0.8, "low": 0.85, "high": 0.75} if inverse else {"median": 0.8, "low": 0.75, "high": 0.85}

    def figure(share: float) -> float:
        return original / share if inverse else original * share

    reading = Interval(**{name: figure(share) for name, share in shares_there.items()})
    line = MovedLine(3, reading, original, 0.1, inverse=inverse)
    assert line.at(3).model_dump() == pytest.approx(reading.model_dump())
    for removed in (1, 2, 5, 8):
        found, off = line.at(removed), 0.1 * (removed - 3)
        expected = {name: figure(share - off) for name, share in shares_there.items()}
        assert found.model_dump() == pytest.approx(expected)
        assert found.low < found.median < found.high
    assert line.at(100).median == pytest.approx(figure(1e-3)), "noise makes no time of nothing"


def test_the_least_depth_that_reaches() -> None:
    assert least_depth(lambda count: count >= 7, 24) == 7
    assert least_depth(lambda count: False, 24) is None


@pytest.mark.parametrize(("most", "depths"), [(24, [8, 16, 24]), (5, [2, 3, 5]), (2, [1, 2]), (1, [1])])
def test_depths_to_try(most: int, depths: list[int]) -> None:
    assert trial_depths(most) == depths


def test_blocks_are_taken_evenly() -> None:
    assert evenly(list(range(4, 28)), 3) == [8, 16, 24]
    assert evenly([4, 5, 6], 3) == [4, 5, 6]
    for count in range(1, 25):
        taken = evenly(list(range(4, 28)), count)
        assert len(set(taken)) == count
        assert set(taken) <= set(range(4, 28))


def test_memory_lies_on_the_line_of_least_squares() -> None:
    peaks = {0: 1000.0, 8: 805.0, 24: 390.0}
    line = fitted(peaks)
    slope, start = np.polyfit(list(peaks), list(peaks.values()), 1)
    assert (line.original, line.per_block) == pytest.approx((start, -slope))
    assert line.at(10) == pytest.approx(start + 10 * slope)
    assert line.residual == pytest.approx(max(abs(start + slope * x - y) for x, y in peaks.items()))
