"""Numbers read the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
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
    assert n.seconds(0.0451) == "45.1 ms"
    assert n.seconds(2e-5) == "20.0 µs"
    assert n.seconds(1.234) == "1.23 s"
    assert n.duration(0.42) == "420 ms"
    assert n.duration(4.23) == "4.2 s"
    assert n.duration(42.4) == "42 s"
    assert n.about(20, 80) == "20 to 80 s"
    assert n.about(45, 180) == "45 s to 3 min"
    assert n.about(180, 720) == "3 to 12 min"
    assert n.about(5400, 5500) == "2 h"
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


@pytest.mark.parametrize(
    ("write", "value", "written"),
    [
        (n.significant, 0.0001, "0.000100"),
        (n.significant, 0.00009, "9.00 × 10⁻⁵"),
        (n.significant, 9_990_000, "9,990,000"),
        (n.significant, 9_999_999, "1.00 × 10⁷"),
        (n.significant, -3e-10, "−3.00 × 10⁻¹⁰"),
        (n.plain, 0, "0"),
        (n.plain, 10, "10"),
        (n.plain, 1 / 3, "0.333333333333"),
        (n.plain, 1e-9, "0.000000001"),
        (n.plain, 0.9e-9, "9.00 × 10⁻¹⁰"),
        (n.plain, -0.9e-9, "−9.00 × 10⁻¹⁰"),
        (n.plain, 1e14, "100,000,000,000,000"),
        (n.plain, 1e15, "1.00 × 10¹⁵"),
        (n.plain, -1e15, "−1.00 × 10¹⁵"),
        (n.plain, math.inf, "∞"),
        (n.plain, math.nan, "not a number"),
        (n.count, -1234, "−1,234"),
        (n.count, 1234.6, "1,235"),
        (n.size, 0, "0 B"),
        (n.size, 999.4, "999 B"),
        (n.size, 999.5, "1.00 kB"),
        (n.size, 999_499, "999 kB"),
        (n.size, 999_500, "1.00 MB"),
        (n.size, 2.5e9, "2.50 GB"),
        (n.size, 2.5e12, "2.50 TB"),
        (n.typed_size, 0, "0 B"),
        (n.typed_size, 1000, "1 kB"),
        (n.typed_size, 999_999, "999.999 kB"),
        (n.typed_size, 1e6, "1 MB"),
        (n.typed_size, 1.5e9, "1.5 GB"),
        (n.typed_size, 1e12, "1 TB"),
        (n.seconds, 0, "0 s"),
        (n.seconds, 1, "1.00 s"),
        (n.seconds, 0.999, "999 ms"),
        (n.seconds, 0.001, "1.00 ms"),
        (n.seconds, 0.00099, "990 µs"),
        (n.age, -1, "0 s"),
        (n.age, 59.9, "59 s"),
        (n.age, 60, "1 min"),
        (n.age, 3599, "59 min"),
        (n.age, 3600, "1 h"),
        (n.age, 172799, "47 h"),
        (n.age, 172800, "2 days"),
        (n.duration, 9.9, "9.9 s"),
        (n.duration, 10, "10 s"),
        (n.duration, 59.4, "59 s"),
        (n.duration, 59.6, "1 min 00 s"),
        (n.duration, 61, "1 min 01 s"),
        (n.duration, 3599.4, "59 min 59 s"),
        (n.duration, 3600, "1 h 00 min"),
        (n.duration, 7199, "1 h 59 min"),
        (n.percent, 0.571, "57.1 %"),
        (n.change, 0.0, "±0 %"),
        (n.change, 0.00049, "±0 %"),
        (n.change, -0.00049, "±0 %"),
        (n.change, 0.0006, "+0.1 %"),
        (n.change, 9.99, "+999.0 %"),
        (n.change, 10, "+1,000 %"),
        (n.change, -0.0006, "−0.1 %"),
        (n.change, math.inf, "–"),
        (n.points, 0.0304, "3.0 points"),
        (n.points, -0.0304, "−3.0 points"),
        (n.points, 0.0004, "0 points"),
    ],
)
def test_numbers_at_the_borders_of_units_and_forms(write: Callable[[float], str], value: float, written: str) -> None:
    assert write(value) == written


@pytest.mark.parametrize(
    ("format", "value", "usual", "finer", "typed"),
    [
        (n.NUMBER, 1.23456, "1.23", "1.235", "1.23456"),
        (n.COUNT, 1234, "1,234", "1,234", "1,234"),
        (n.SIZE, 123_456_789, "123 MB", "123.5 MB", "123.456789 MB"),
        (n.SECONDS, 1.23456, "1.23 s", "1.235 s", "1.23456 s"),
        (n.SECONDS, 0.0123456, "12.3 ms", "12.35 ms", "0.0123456 s"),
        (n.SECONDS, 1.23456e-5, "12.3 µs", "12.35 µs", "0.0000123456 s"),
        (n.RATIO, 1.23456, "1.23×", "1.235×", "1.23456×"),
        (n.PERCENT, 0.123456, "12.3 %", "12.35 %", "12.3456 %"),
        (n.POINTS, 0.123456, "12.3 points", "12.35 points", "12.3456 points"),
    ],
)
def test_a_figure_in_every_form(format: n.Format, value: float, usual: str, finer: str, typed: str) -> None:
    assert (format.write(value), format.finer(value, 0)) == (usual, usual)
    assert (format.finer(value, 1), format.typed(value)) == (finer, typed)


def test_digits_as_asked_for() -> None:
    assert n.significant(1234.5, 6) == "1,234.50"
    assert n.significant(4.2, 1) == "4"
    assert n.size(999_500, 4) == "999.5 kB"
    assert n.plain(1234.5678, 6) == "1,234.57"
    assert n.span(1.2083, 1.2683, 4) == "1.208 to 1.268"
    assert n.span(1.0, None) == ""
    assert n.points(0.01234, 3) == "1.234 points"


def test_an_interval_without_an_end_is_none() -> None:
    assert n.SECONDS.span(None, 1.0) == n.SECONDS.span(1.0, None) == ""


def test_two_figures_that_no_digit_tells_apart() -> None:
    close = math.nextafter(1.25, 2)
    assert n.RATIO.apart(close, 1.25) == "1.2500000000000002×"
    assert n.COUNT.apart(5.2, 5) == "5"
