"""Intervals, against known distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]  # ships no annotations

from secateur.contract.measurements import Interval
from workers.engine.benchmarks import statistics
from workers.engine.benchmarks.statistics import (
    drop_interval,
    half_width,
    mean_interval,
    median_interval,
    ratio_interval,
    widen,
)


def spread(values: Any, **more: Any) -> tuple[float, float, float]:
    """The mean of several values with its interval, which there is."""
    mean, low, high = mean_interval(values, **more)
    assert low is not None
    assert high is not None
    return mean, low, high


def test_the_interval_of_a_mean_agrees_with_students() -> None:
    data = np.random.default_rng(1).normal(10.0, 2.0, size=30)
    mean, low, high = spread(data)
    expected = stats.t.interval(0.95, 29, loc=data.mean(), scale=data.std(ddof=1) / np.sqrt(30))
    assert mean == pytest.approx(data.mean())
    assert (low, high) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("count", [8, 20])
@pytest.mark.parametrize("name", ["normal", "exponential"])
def test_the_interval_of_a_median_holds_the_true_one_nineteen_times_in_twenty(
    count: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    generator = np.random.default_rng(7)
    true = {"normal": 0.0, "exponential": np.log(2)}[name]
    draws = [getattr(generator, name)(size=count) for _ in range(400)]
    held = sum(interval.low <= true <= interval.high for interval in map(median_interval, draws))
    assert 370 <= held <= 398  # 92.5 % to 99.5 %; binomial noise around 95 % is ±2.2


def test_pairs_cancel_what_slows_both() -> None:
    generator = np.random.default_rng(3)
    slow = 1 + generator.exponential(1.0, size=20)  # a busy machine
    before, after = 2.0 * slow, 1.0 * slow * generator.normal(1, 0.01, size=20)
    paired = ratio_interval(list(before), list(after))
    assert paired.low < 2.0 < paired.high
    assert paired.high - paired.low < 0.05


def test_the_same_data_give_the_same_interval() -> None:
    data = list(np.random.default_rng(5).normal(size=12))
    assert median_interval(data) == median_interval(data)


def test_one_value_has_no_width_and_equal_values_none_either() -> None:
    assert median_interval([3.0]) == Interval(median=3.0, low=3.0, high=3.0)
    assert median_interval([3.0] * 5) == Interval(median=3.0, low=3.0, high=3.0)


def test_a_mean_of_one_value_has_no_interval() -> None:
    assert mean_interval([3.0]) == (3.0, None, None)
    assert mean_interval([3.0], weights=[7.0]) == (3.0, None, None)


def test_items_that_all_stayed_are_no_certainty() -> None:
    for count in (1, 40, 1000):
        unseen = 1 - 0.025 ** (1 / count)  # the upper limit of Clopper and Pearson's interval of 0 in `count`
        right, wrong = [1.0] * count, [0.0] * count
        assert drop_interval(right, right) == pytest.approx((0.0, -unseen, unseen))
        assert drop_interval(wrong, right) == pytest.approx((-1.0, -1.0, -1 + 2 * unseen))
        assert drop_interval(right, wrong) == pytest.approx((1.0, 1 - 2 * unseen, 1.0))


def test_items_that_changed_are_resampled() -> None:
    before, after = np.array([1.0, 1, 0, 1, 0, 1, 1, 1] * 10), np.array([1.0, 0, 0, 1, 1, 1, 0, 1] * 10)
    assert drop_interval(before, after) == mean_interval(before - after)


def test_many_values_are_resampled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(2).normal(size=500)
    monkeypatch.setattr(statistics, "_CELLS", 50_000)
    mean, low, high = spread(data)
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.965 * data.std(ddof=1) / np.sqrt(500), rel=0.05)


def test_a_drift_that_the_same_model_shows_against_itself_widens_the_interval() -> None:
    speedup = Interval(median=1.30, low=1.28, high=1.32)
    assert widen(speedup, Interval(median=1.0, low=0.99, high=1.01)) == speedup
    drifted = widen(speedup, Interval(median=1.03, low=1.02, high=1.04))
    assert (drifted.low, drifted.high) == pytest.approx((1.28 / 1.02, 1.32 * 1.02))
    slower = widen(speedup, Interval(median=0.97, low=0.96, high=0.98))
    assert slower.low == pytest.approx(1.28 * 0.98)
    assert half_width(Interval(median=1.03, low=1.02, high=1.04)) == pytest.approx(0.04)


def test_weights_count_as_repetitions_do() -> None:
    generator = np.random.default_rng(4)
    values = generator.normal(size=60)
    weights = [1.0] * 30 + [3.0] * 30
    mean, low, high = spread(values, weights=weights)
    assert mean == pytest.approx(np.average(values, weights=weights))
    assert low < mean < high
    assert mean_interval(values, weights=[2.0] * 60) == mean_interval(values)


def by_hand(values: list[float], weights: list[float], how: str) -> tuple[float, float]:
    """The expanded percentile interval, all of it at once."""
    data, weighed, count = np.array(values), np.array(weights), len(values)
    rows = np.random.default_rng(20240205).integers(0, count, size=(10_000, count))
    found = {
        "mean": (data[rows] * weighed[rows]).sum(axis=1) / weighed[rows].sum(axis=1),
        "median": np.median(data[rows], axis=1),
    }[how]
    tail = stats.norm.cdf(stats.t.ppf(0.025, count - 1) * np.sqrt(count / (count - 1)))
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)


VALUES = [0.5, 3.0, 1.25, 8.0, 2.0, 2.5, 13.0]
WEIGHTS = [1.0, 4.0, 2.0, 2.0, 9.0, 1.0, 3.0]


def test_the_intervals_are_those_of_a_plain_bootstrap() -> None:
    ones = [1.0] * len(VALUES)
    assert spread(VALUES)[1:] == pytest.approx(by_hand(VALUES, ones, "mean"), rel=1e-12)
    assert spread(VALUES, weights=WEIGHTS)[1:] == pytest.approx(by_hand(VALUES, WEIGHTS, "mean"), rel=1e-12)
    found = median_interval(VALUES)
    assert (found.median, found.low, found.high) == pytest.approx((2.5, *by_hand(VALUES, ones, "median")), rel=1e-12)
    ratios = ratio_interval([2 * value for value in VALUES], [4.0] * len(VALUES))
    assert ratios.median == 1.25
    assert (ratios.low, ratios.high) == pytest.approx((found.low / 2, found.high / 2), rel=1e-12)


def test_parts_are_drawn_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, weighed = spread(VALUES), spread(VALUES, weights=WEIGHTS)
    for cells in (1, 7, 60_000):  # one row at a time, and parts of which the last is shorter
        monkeypatch.setattr(statistics, "_CELLS", cells)
        assert (spread(VALUES), spread(VALUES, weights=WEIGHTS)) == (plain, weighed)


def test_the_median_lies_within_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    for ends, within in (((4.0, 5.0), (3.0, 5.0)), ((1.0, 2.0), (1.0, 3.0))):
        monkeypatch.setattr(statistics, "_interval", lambda data, mean, ends=ends: ends)
        found = median_interval([2.0, 3.0, 4.0])
        assert (found.low, found.median, found.high) == (within[0], 3.0, within[1])


def test_a_drop_of_more_than_all_is_no_share() -> None:
    assert drop_interval([3.0, 3.0], [1.0, 1.0]) == (2.0, 2.0, 2.0)
    assert drop_interval([0.5, 1.0], [0.25, 0.75]) == pytest.approx(
        (0.25, 0.25 - 1.25 * 0.84188612, 0.25 + 0.75 * 0.84188612)
    )


def test_how_far_a_ratio_is_off_by_its_farther_end() -> None:
    assert half_width(Interval(median=0.9, low=0.75, high=1.0)) == 0.25
    assert half_width(Interval(median=1.5, low=1.25, high=2.0)) == 1.0
    assert half_width(Interval(median=1.0, low=0.75, high=1.125)) == 0.25


def test_an_interval_that_holds_one_widens_nothing() -> None:
    speedup = Interval(median=1.5, low=1.25, high=2.0)
    for same in (
        Interval(median=1, low=1, high=1),
        Interval(median=1, low=0.5, high=1),
        Interval(median=1, low=1, high=2),
    ):
        assert widen(speedup, same) == speedup
    assert widen(speedup, Interval(median=0.4, low=0.25, high=0.5)) == Interval(median=1.5, low=0.625, high=4.0)


@pytest.mark.parametrize("changed", [0.5, -0.5])
def test_one_item_that_changed_is_enough_to_resample(changed: float) -> None:
    before, after = np.array([0.5, 0.5, 0.5 + changed]), np.array([0.5, 0.5, 0.5])
    assert drop_interval(before, after) == mean_interval([0.0, 0.0, changed])


def test_pairs_are_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio_interval([1.0, 2.0], [1.0])
