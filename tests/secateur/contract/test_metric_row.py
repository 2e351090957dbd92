"""One row of the table: which of several figures it gives, what it calls them, and what it holds them against."""

from __future__ import annotations

import math
from typing import Any

import pytest

from secateur.contract import numbers as n
from secateur.contract.intervals import Estimate
from secateur.contract.measurements import Measurement
from secateur.contract.metric_row import CHANGE, DROP, RATIO, Judged, Metric, Section, uncapitalised
from secateur.contract.readings import Reading, Subject, Variant

VARIANT = Variant(Measurement(variant="pruned", parameters=1, blocks=1, bytes_on_disk=4))


def row(*readings: Reading, **more: Any) -> Metric:
    settled: dict[str, Any] = {"title": "Peak heat", "better": "lower", "format": n.NUMBER}
    return Metric("heat", section=Section("Heat"), read=lambda variant: list(readings), **{**settled, **more})


def reading(value: float, name: str, **more: Any) -> Reading:
    return Reading(value, value - 1, value + 2, subject=Subject(phrase=f" on {name}"), **more)


A, B = reading(3, "a"), reading(5, "b")


def test_the_first_of_several_or_all_of_them() -> None:
    first = row(A, B).judged(VARIANT)
    assert first == [Judged("peak heat on a", 3, 2, 5, " on a", A)]
    worst = row(A, B, several="worst").judged(VARIANT)
    assert worst == [*first, Judged("peak heat on b", 5, 4, 7, " on b", B)]
    assert row().judged(VARIANT) == row(several="mean").judged(VARIANT) == []


def test_what_does_not_count_is_passed_over() -> None:
    aside = reading(9, "aside", counts=False)
    assert [one.value for one in row(aside, A).judged(VARIANT)] == [3]
    assert [one.value for one in row(A, aside, B, several="worst").judged(VARIANT)] == [3, 5]


def test_a_comparison_is_judged_where_the_row_says_so() -> None:
    compared = reading(3, "a", compared=Estimate(0.3, 0.2, 0.5))
    against: dict[str, Any] = {"judges": "comparison", "compares": RATIO, "judged_as": "heat ratio"}
    assert row(compared, **against).judged(VARIANT) == [
        Judged("heat ratio on a", 0.3, 0.2, 0.5, " on a", compared),
    ]
    assert row(compared, compares=RATIO).judged(VARIANT)[0].value == 3
    assert (
        row(compared, A, several="worst", **against).judged(VARIANT) == []
    )  # one that is not known is not passed over


def test_the_mean_has_its_reaches_in_quadrature() -> None:
    (mean,) = row(reading(3, "a"), reading(5, "b"), reading(10, "c"), several="mean").judged(VARIANT)
    assert (mean.metric, mean.phrase, mean.reading) == ("peak heat (mean of 3 tasks)", " (mean of 3 tasks)", None)
    assert mean.value == 6
    assert (mean.low, mean.high) == pytest.approx((6 - math.sqrt(3) / 3, 6 + math.sqrt(12) / 3))
    (one,) = row(A, several="mean").judged(VARIANT)
    assert (one.metric, one.value, one.low, one.high) == ("peak heat (mean of 1 task)", 3, 2, 5)


@pytest.mark.parametrize("unknown", [Reading(5), Reading(5, low=4), Reading(5, high=6)])
def test_a_mean_with_one_reach_unknown_has_none(unknown: Reading) -> None:
    for order in ((A, unknown), (unknown, A)):
        (mean,) = row(*order, several="mean").judged(VARIANT)
        assert (mean.value, mean.low, mean.high) == (4, None, None)
        assert (mean.metric, mean.phrase) == ("peak heat (mean of 2 tasks)", " (mean of 2 tasks)")


def test_an_end_on_the_wrong_side_of_its_value_has_no_reach() -> None:
    (mean,) = row(Reading(3, low=3.5, high=2.5), Reading(5, low=4, high=7), several="mean").judged(VARIANT)
    assert (mean.low, mean.high) == (4 - 1 / 2, 4 + 2 / 2)


@pytest.mark.parametrize(
    ("better", "judges", "worst"),
    [("lower", "value", 5), ("higher", "value", 3), ("lower", "comparison", 5), ("higher", "comparison", 5)],
)
def test_the_worst_of_losses_and_ratios_is_the_greatest(better: str, judges: str, worst: float) -> None:
    judged = [Judged("b", 5), Judged("a", 3), Judged("c", 4)]
    assert row(better=better, judges=judges).worst(judged).value == worst
    assert row(better=better, judges=judges).worst(judged[::-1]).value == worst


def test_words_for_an_axis_a_label_and_a_sentence() -> None:
    assert (row(unit="K").axis, row().axis) == ("Peak heat (K)", "Peak heat")
    assert row(judged_as="heat ratio").label == "Peak heat"
    assert row(judged_as="heat ratio", judges="comparison").label == "Heat ratio"
    assert [uncapitalised(word) for word in ("Perplexity ratio", "KL divergence", "A", "")] == [
        "perplexity ratio",
        "KL divergence",
        "a",
        "",
    ]


def test_the_judged_number_is_written_as_what_it_is() -> None:
    assert row(compares=RATIO, judges="comparison").judged_format is n.RATIO
    assert row(compares=RATIO).judged_format is row(judges="comparison").judged_format is n.NUMBER


def test_a_reading_against_the_originals() -> None:
    paired = reading(3, "a", compared=Estimate(0.3, 0.2, 0.5))
    assert row(compares=RATIO).compared(paired, B) == row().compared(paired, None) == Estimate(0.3, 0.2, 0.5)
    assert row(compares=RATIO).compared(A, B) == Estimate(3 / 5)
    assert row(compares=RATIO).compared(A, None) is None
    assert row().compared(A, B) is None


@pytest.mark.parametrize(
    ("comparison", "after", "before", "value", "written"),
    [
        (CHANGE, 3, 4, -0.25, "−25.0 %"),
        (CHANGE, 5, 4, 0.25, "+25.0 %"),
        (RATIO, 5, 4, 1.25, "1.25×"),
        (DROP, 0.5, 0.75, 0.25, "−25.0 points"),  # written as the change, judged as the loss
        (DROP, 0.75, 0.5, -0.25, "+25.0 points"),
    ],
)
def test_the_three_comparisons(comparison: Any, after: float, before: float, value: float, written: str) -> None:
    assert comparison.of(after, before) == value
    assert comparison.write(value) == written


def test_nothing_is_held_against_zero() -> None:
    assert math.isnan(CHANGE.of(3, 0))
    assert math.isnan(RATIO.of(3, 0))
    assert DROP.of(3, 0) == -3


def test_each_comparison_has_its_form_where_it_is_judged() -> None:
    assert [one.format for one in (CHANGE, RATIO, DROP)] == [n.NUMBER, n.RATIO, n.POINTS]


def test_a_row_says_nothing_that_it_was_not_told() -> None:
    plain = row()
    assert not any((plain.exact, plain.short, plain.headline, plain.judged_as, plain.how, plain.unit))
    assert (plain.several, plain.judges, plain.at_original, plain.compares) == ("first", "value", None, None)
    assert Reading(1).counts
