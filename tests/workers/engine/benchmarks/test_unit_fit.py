"""The plane through models that were timed: against least squares by numpy, and on times that lie on a plane."""

from __future__ import annotations

import numpy as np
import pytest

from secateur.contract.measurements import Interval
from workers.engine.benchmarks.unit_fit import (
    TimedSet,
    needed_saving,
    plane,
    predicted_set,
    share_intervals,
    shares_by_round,
    trial_sets,
)

NO_NOISE = Interval(median=1, low=1, high=1)


def timed(attentions: int, mlps: int, *, noise: float = 0.0, same: Interval = NO_NOISE) -> TimedSet:
    """Of a time of 4 - 0.02 · attentions - 0.05 · MLPs, on a machine that is slower in every round than before."""
    generator = np.random.default_rng(attentions + 100 * mlps)
    slow = [1 + 0.2 * turn for turn in range(6)]
    reduced = [(4 - 0.02 * attentions - 0.05 * mlps) * times * (1 + noise * generator.normal()) for times in slow]
    return TimedSet(attentions, mlps, [4 * times for times in slow], reduced, same)


def speedup(seconds: float, ratio: float) -> float:
    return 1 / ratio


def test_a_plane_is_found_whatever_slows_the_machine() -> None:
    sets = [timed(*counts) for counts in trial_sets(29, 29)]
    attention, mlp = share_intervals(sets)
    assert (attention.median, mlp.median) == pytest.approx((0.02 / 4, 0.05 / 4))
    assert attention.low == pytest.approx(attention.high)
    found = predicted_set(sets, 7, 3, speedup)
    assert found.median == pytest.approx(4 / (4 - 0.14 - 0.15))


def test_with_noise_it_is_the_least_squares_plane() -> None:
    sets = [timed(*counts, noise=0.05) for counts in trial_sets(30, 30)]
    places = np.array([(one.attentions, one.mlps) for one in sets], float)
    for number, found in enumerate(shares_by_round(sets)):
        saved = np.array([1 - one.ratios[number] for one in sets])
        assert found == pytest.approx(tuple(np.linalg.lstsq(places, saved, rcond=None)[0]))
    attention, _ = share_intervals(sets)
    assert attention.low < attention.median < attention.high
    wider = [
        timed(*counts, noise=0.05, same=Interval(median=1.1, low=1.08, high=1.12)) for counts in trial_sets(30, 30)
    ]
    plain, widened = predicted_set(sets, 9, 4, speedup), predicted_set(wider, 9, 4, speedup)
    assert widened.low < plain.low < plain.high < widened.high


def test_a_kind_that_was_never_removed_costs_nothing() -> None:
    assert plane([(3, 0), (6, 0)], [0.3, 0.6]) == pytest.approx((0.1, 0))
    assert plane([(0, 2)], [0.5]) == pytest.approx((0, 0.25))
    assert plane([(2, 2), (4, 4)], [0.4, 0.8]) == pytest.approx((0.1, 0.1)), "which of the two, nothing tells"


def test_what_has_to_be_saved_reaches_whatever_it_is_made_of() -> None:
    within = 6 * 2 + 6 * 5
    assert needed_saving(lambda a, m: 2 * a + 5 * m >= 11, (2, 5), (6, 6), within=within) == 11
    found = needed_saving(lambda a, m: 2 * a + 5 * m >= 11 and m > 1, (2, 5), (6, 6), within=within)
    assert found == 18, "6 attentions and 1 MLP save 17, and miss"
    assert needed_saving(lambda a, m: False, (2, 5), (6, 6), within=within) is None
    assert needed_saving(lambda a, m: (a, m) != (6, 6), (2, 5), (6, 6), within=within - 1) == 0
    assert needed_saving(lambda a, m: a >= 30, (1, 0), (48, 0), within=48) == 30, "of many, not all are looked at"
