"""Numbers read the same everywhere."""

from __future__ import annotations

import math

import pytest

from workers.reporting import numbers as n


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
    assert n.duration(42.4) == "42 s"
    assert n.duration(185) == "3 min 05 s"
    assert n.duration(7620) == "2 h 07 min"


def test_changes_carry_their_sign() -> None:
    assert n.change(113, 138) == "−18.1 %"
    assert n.change(104, 100) == "+4.0 %"
    assert n.change(100.01, 100) == "±0 %"
    assert n.change(5000, 100) == "+4,900 %"
    assert n.change(1, 0) == n.MISSING
    assert n.change(math.nan, 1) == n.MISSING


def test_limits_as_typed() -> None:
    assert n.plain(1.25) == "1.25"
    assert n.plain(120_000_000) == "120,000,000"
    assert n.plain(-0.5) == "−0.5"


def test_intervals() -> None:
    assert n.span(1.2083, 1.2683) == "1.21 to 1.27"
    assert n.span(None, 1.0) == ""
