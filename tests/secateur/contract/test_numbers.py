"""Numbers read the same everywhere."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

import pytest

from secateur.contract import numbers as n


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (1.0, "1.00"),
        (1234.5, "1,234"),
        (0.01234, "0.0123"),
        (9.999, "10.0"),
        (-2.0, "−2.00"),
        (1.2e-7, "1.20 × 10⁻⁷"),
        (3.2e9, "3.20 × 10⁹"),
        (math.nan, "not a number"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
    ],
)
def test_three_significant_digits(value: float, written: str) -> None:
    assert n.significant(value) == written


def test_units() -> None:
    assert n.size(538_090_408) == "538 MB"
    assert n.size(12) == "12 B"
    assert n.short_count(134_515_008) == "134.5 M"
    assert n.short_count(6_738_415_616) == "6.74 B"
    assert n.short_count(999) == "999"
    assert n.seconds(0.0451) == "45.1 ms"
    assert n.seconds(2e-5) == "20.0 µs"
    assert n.seconds(1.234) == "1.23 s"
    assert n.duration(0.42) == "420 ms"
    assert n.duration(4.23) == "4.2 s"
    assert n.duration(42.4) == "42 s"
    assert n.duration(185) == "3 min 05 s"
    assert n.duration(7620) == "2 h 07 min"


def test_changes_carry_their_sign() -> None:
    assert n.change(-0.181) == "−18.1 %"
    assert n.change(0.04) == "+4.0 %"
    assert n.change(0.0001) == "±0 %"
    assert n.change(49) == "+4,900 %"
    assert n.change(math.nan) == n.MISSING
    assert [n.signed_points(part) for part in (0.031, -0.031, 0.0001, -0.0001)] == [
        "+3.1 points",
        "−3.1 points",
        "±0 points",
        "±0 points",
    ]


def test_limits_as_typed() -> None:
    assert n.plain(1.25) == "1.25"
    assert n.plain(120_000_000) == "120,000,000"
    assert n.plain(-0.5) == "−0.5"
    assert n.plain(0.00002) == "0.00002"
    assert n.plain(13_766_912.5) == "13,766,912.5"
    assert n.plain(1e20) == "1.00 × 10²⁰"
    assert n.plain(100 * 0.57) == "57"


def test_intervals() -> None:
    assert n.span(1.2083, 1.2683) == "1.21 to 1.27"
    assert n.span(None, 1.0) == ""
    assert n.RATIO.span(1.2083, 1.2683) == "1.21 to 1.27"
    assert n.SECONDS.span(0.0451, 0.047) == "45.1 to 47.0 ms"
    assert n.SECONDS.span(0.00095, 0.00105) == "950 µs to 1.05 ms"
    assert n.PERCENT.span(0.61, 0.64) == "61.0 to 64.0 %"
    assert n.COUNT.span(None, None) == ""


@pytest.mark.parametrize(
    ("format", "value", "limit", "written"),
    [
        (n.RATIO, 1.238, 1.2, "1.24×"),
        (n.RATIO, 1.2496, 1.25, "1.2496×"),
        (n.RATIO, 1.2046, 1.2044, "1.205×"),
        (n.RATIO, 1.2346789, 1.2346789, "1.2346789×"),
        (n.PERCENT, 0.49996, 0.5, "49.996 %"),
        (n.POINTS, 0.0304, 0.03, "3.04 points"),
        (n.SIZE, 453_130_000, 453_000_000, "453.1 MB"),
        (n.COUNT, 120_000_001, 120_000_000, "120,000,001"),
        (n.NUMBER, math.nan, 0.5, "not a number"),
    ],
)
def test_a_figure_has_the_digits_that_tell_it_from_its_limit(
    format: n.Format, value: float, limit: float, written: str
) -> None:
    assert format.apart(value, limit) == written


def test_limits_have_the_unit_and_every_digit() -> None:
    assert n.RATIO.typed(1.25) == "1.25×"
    assert n.PERCENT.typed(0.57) == "57 %"
    assert n.POINTS.typed(0.03) == "3 points"
    assert n.SIZE.typed(453_130_000) == "453.13 MB"
    assert n.SIZE.typed(999) == "999 B"


def test_sizes_at_the_border_of_two_units() -> None:
    assert [n.size(size) for size in (999, 1000, 999_400, 999_600, 1e6)] == [
        "999 B",
        "1.00 kB",
        "999 kB",
        "1.00 MB",
        "1.00 MB",
    ]


def test_times_are_in_utc_and_say_so() -> None:
    east = datetime(2026, 11, 24, 20, 0, 3, tzinfo=timezone(timedelta(hours=2)))
    assert n.moment(east) == "2026-11-24 18:00 UTC"
    assert n.moment(east, exact=True) == "2026-11-24 18:00:03 UTC"
    assert n.clock(east) == "18:00:03"
