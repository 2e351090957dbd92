"""How numbers are written in every report: three significant digits, a unit, a true minus sign.

One place, so that a figure reads the same in HTML, in Markdown, in a plot and in the model card. Counts that are
exact are written out in full where there is room (`count`), and shortened where there is not (`short_count`). Sizes
are decimal: a megabyte is 10⁶ bytes, as disks and downloads count.
"""

from __future__ import annotations

import math

MISSING = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


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


def plain(value: float) -> str:
    """A number as somebody would type it, such as a gate's limit: 1.25, 0.03, 120,000,000."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", "−")
    return f"{value:,.6g}".replace("-", "−")


def count(value: int) -> str:
    """A whole number in full, with separators: 134,515,008."""
    return f"{value:,}"


def short_count(value: int) -> str:
    """A count in millions or billions: "134.5 M", "6.74 B"; in full below a million."""
    for scale, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= scale:
            return f"{significant(value / scale, 4 if unit == 'M' else 3)} {unit}"
    return f"{value:,}"


def size(value: float) -> str:
    """Bytes in decimal units: "269 MB"."""
    for scale, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= scale:
            return f"{significant(value / scale)} {unit}"
    return f"{value:,.0f} B"


def seconds(value: float) -> str:
    """A measured time: "45.1 ms", "1.23 s"."""
    if value >= 1 or value == 0:
        return f"{significant(value)} s"
    if value >= 1e-3:
        return f"{significant(value * 1e3)} ms"
    return f"{significant(value * 1e6)} µs"


def duration(value: float) -> str:
    """How long work took, for people: "42 s", "3 min 05 s", "2 h 07 min"."""
    whole = round(value)
    if whole < 60:
        return f"{whole} s" if value >= 10 else seconds(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def ratio(value: float) -> str:
    """A factor: "1.25×"."""
    return f"{significant(value)}×"


def percent(value: float) -> str:
    """A fraction as a percentage: 0.571 → "57.1 %"."""
    return f"{significant(100 * value)} %"


def change(after: float, before: float) -> str:
    """The relative change with its sign, to a tenth of a percent: "−18.3 %", "+4.0 %", "±0 %"."""
    if not before or not math.isfinite(after / before):
        return MISSING
    part = 100 * (after / before - 1)
    if abs(part) < 0.05:
        return "±0 %"
    text = f"{abs(part):,.1f}" if abs(part) < 1000 else f"{abs(part):,.0f}"
    return f"{'−' if part < 0 else '+'}{text} %"


def points(after: float, before: float) -> str:
    """The difference of two fractions in percentage points: "−3.1 points"."""
    part = 100 * (after - before)
    return "±0 points" if abs(part) < 0.05 else f"{'−' if part < 0 else '+'}{abs(part):.1f} points"


def span(low: float | None, high: float | None, digits: int = 3) -> str:
    """An interval: "1.21 to 1.29"; empty where there is none."""
    return "" if low is None or high is None else f"{significant(low, digits)} to {significant(high, digits)}"
