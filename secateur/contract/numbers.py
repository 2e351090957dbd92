"""How numbers are written: three significant digits, a unit, a true minus sign. The only place where that is decided.

So a figure reads the same in a report of any form, on the dashboard, in a terminal and in a gate's sentence. Counts are
exact and written out. Sizes are decimal: a megabyte is 10⁶ bytes, as disks and downloads count. Times of day are in
UTC, and say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

MISSING = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_MOST_DIGITS = 15  # that a float has


def significant(value: float, digits: int = 3) -> str:
    """`value` to `digits` significant digits; whole digits are never rounded away.

    >>> significant(1234.5), significant(0.01234), significant(-2.0), significant(1.2e-7)
    ('1,234', '0.0123', '−2.00', '1.20 × 10⁻⁷')
    """
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    mantissa, exponent = f"{abs(value):.{digits - 1}e}".split("e")
    power = int(exponent)
    if -4 <= power < 7:
        text = f"{abs(value):,.{max(0, digits - 1 - power)}f}"
    else:
        text = f"{mantissa} × 10{str(power).translate(_SUPERSCRIPT)}"
    return f"−{text}" if value < 0 else text


def plain(value: float, digits: int = 12) -> str:
    """A number as somebody would type it, such as a gate's limit: 1.25, 0.03, 120,000,000."""
    if not math.isfinite(value) or abs(value) >= 1e15 or 0 < abs(value) < 1e-9:
        return significant(value)
    text = f"{Decimal(f'{value:.{digits}g}'):,f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", "−")


def count(value: float) -> str:
    """A whole number in full, with separators: 134,515,008."""
    return f"{round(value):,}".replace("-", "−")


def size(value: float, digits: int = 3) -> str:
    """Bytes in decimal units: "269 MB"."""
    for scale, unit in _SIZES:
        if value >= scale * (1 - 0.5 * 10**-digits):  # 999,999 bytes are 1.00 MB
            return f"{significant(value / scale, digits)} {unit}"
    return f"{value:,.0f} B"


def typed_size(value: float) -> str:
    """Bytes with every digit that counts: "453.13 MB"."""
    scale, unit = next(((scale, unit) for scale, unit in _SIZES if value >= scale), (1, "B"))
    return f"{plain(value / scale)} {unit}"


def seconds(value: float, digits: int = 3) -> str:
    """A measured time: "45.1 ms", "1.23 s"."""
    if value >= 1 or value == 0:
        return f"{significant(value, digits)} s"
    if value >= 1e-3:
        return f"{significant(value * 1e3, digits)} ms"
    return f"{significant(value * 1e6, digits)} µs"


def duration(value: float) -> str:
    """How long work took, for people: "420 ms", "4.2 s", "42 s", "3 min 05 s", "2 h 07 min"."""
    whole = round(value)
    if whole < 60:
        return f"{whole} s" if value >= 10 else seconds(value, 2)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def about(low: float, high: float) -> str:
    """A time that is known as a span, in whole units: "20 s to 2 min", "3 to 12 min", "1 to 5 h"."""
    left, right = _whole(low), _whole(high)
    if left == right:
        return right
    if left.rpartition(" ")[2] == right.rpartition(" ")[2]:
        left = left.rpartition(" ")[0]
    return f"{left} to {right}"


def _whole(value: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if value >= length * 1.5:
            return f"{round(value / length):,} {unit}"
    return f"{max(1, round(value))} s"


def age(value: float) -> str:
    """How long ago, in one unit: "42 s", "3 min", "5 h", "12 days"."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if value >= length * (2 if unit == "days" else 1):
            return f"{int(value // length)} {unit}"
    return f"{max(0, int(value))} s"


def moment(time: datetime, *, exact: bool = False) -> str:
    """A time of day: "2026-11-24 18:00 UTC", to the second where it is to be `exact`."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M{':%S' if exact else ''}} UTC"


def clock(time: datetime) -> str:
    """A time of day without its date, where what is around it says that times are in UTC: "18:00:03"."""
    return f"{time.astimezone(UTC):%H:%M:%S}"


def ratio(value: float, digits: int = 3) -> str:
    """A factor: "1.25×"."""
    return f"{significant(value, digits)}×"


def percent(value: float, digits: int = 3) -> str:
    """A fraction as a percentage: 0.571 → "57.1 %"."""
    return f"{significant(100 * value, digits)} %"


def change(part: float) -> str:
    """A relative change with its sign, to a tenth of a percent: "−18.3 %", "+4.0 %", "±0 %"."""
    if not math.isfinite(part):
        return MISSING
    part *= 100
    if abs(part) < 0.05:
        return "±0 %"
    text = f"{abs(part):,.1f}" if abs(part) < 1000 else f"{abs(part):,.0f}"
    return f"{'−' if part < 0 else '+'}{text} %"


def points(part: float, decimals: int = 1) -> str:
    """A difference of two fractions in percentage points: "3.1 points", "−0.4 points"."""
    text = f"{100 * part:.{decimals}f}"
    return f"{'0' if float(text) == 0 else text} points".replace("-", "−")


def signed_points(part: float) -> str:
    """The same with its sign where it rises too: "+0.4 points"."""
    text = points(part)
    return f"±{text}" if text.startswith("0 ") else text if text.startswith("−") else f"+{text}"


def signed(value: float) -> str:
    """A difference with its sign, to three digits: "+0.0123", "−0.4", "±0"."""
    text = significant(abs(value))
    return "±0" if value == 0 else f"{'−' if value < 0 else '+'}{text}"


def span(low: float | None, high: float | None, digits: int = 3) -> str:
    """An interval: "1.21 to 1.29"; empty where there is none."""
    return "" if low is None or high is None else f"{significant(low, digits)} to {significant(high, digits)}"


@dataclass(frozen=True)
class Format:
    """How figures of one kind are written."""

    write: Callable[[float], str]
    finer: Callable[[float, int], str]  # with so many more digits
    typed: Callable[[float], str]  # with every digit that counts, as a limit is typed

    def span(self, low: float | None, high: float | None) -> str:
        """An interval, the unit once: "45.1 to 47.0 ms"; empty where there is none."""
        if low is None or high is None:
            return ""
        left, right = self.write(low), self.write(high)
        if left.endswith("×"):
            return f"{left.removesuffix('×')} to {right.removesuffix('×')}"
        unit = left.rpartition(" ")[2]
        if right.endswith(f" {unit}"):
            left = left.removesuffix(f" {unit}")
        return f"{left} to {right}"

    def apart(self, value: float, limit: float) -> str:
        """`value` with as many more digits as it takes to see on which side of `limit` it is."""
        if value == limit:
            return self.typed(value)
        more = next(
            (more for more in range(_MOST_DIGITS) if self.finer(value, more) != self.finer(limit, more)), _MOST_DIGITS
        )
        return self.finer(value, more) if more else self.write(value)


NUMBER = Format(significant, lambda value, more: significant(value, 3 + more), plain)
COUNT = Format(count, lambda value, more: count(value), count)
SIZE = Format(size, lambda value, more: size(value, 3 + more), typed_size)
SECONDS = Format(seconds, lambda value, more: seconds(value, 3 + more), lambda value: f"{plain(value)} s")
MILLISECONDS = Format(
    lambda value: f"{significant(value)} ms",
    lambda value, more: f"{significant(value, 3 + more)} ms",
    lambda value: f"{plain(value)} ms",
)
RATIO = Format(ratio, lambda value, more: ratio(value, 3 + more), lambda value: f"{plain(value)}×")
PERCENT = Format(percent, lambda value, more: percent(value, 3 + more), lambda value: f"{plain(100 * value)} %")
POINTS = Format(points, lambda value, more: points(value, 1 + more), lambda value: f"{plain(100 * value)} points")
