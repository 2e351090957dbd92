"""The few pieces of SVG that the report's plots are made of: tags, scales, axes.

Plots are drawn here and not by a plotting library, so that a report is one small file whose plots take the page's
fonts and its light and dark colours (everything is styled by CSS class), stay sharp in print, and name themselves to
a screen reader.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from secateur.contract.numbers import plain, significant
from secateur.report.text import printable


@dataclass(frozen=True)
class Canvas:
    """The size of a drawing, in CSS pixels; a plot is drawn once for a page and once for a phone."""

    name: str
    width: int
    height: int

    @property
    def narrow(self) -> bool:
        return self.width < 500


def tag(name: str, content: str = "", /, **attributes: str | float) -> str:
    """One element. `content` is markup, attribute values are escaped; `text_anchor` writes text-anchor."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_shown(value))}"' for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def label(x: float, y: float, words: str, *, anchor: str = "start", class_: str = "tick") -> str:
    """A line of text with its baseline at (x, y)."""
    return tag("text", escape(printable(words)), x=x, y=y, text_anchor=anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def mark(shape: str, x: float, y: float, radius: float, class_: str) -> str:
    """A data point. Shapes differ as well as colours, for readers who cannot tell the colours apart."""
    r = radius
    if shape == "square":
        return tag("rect", x=x - r * 0.9, y=y - r * 0.9, width=1.8 * r, height=1.8 * r, class_=class_)
    if shape == "diamond":
        corners = ((x, y - 1.3 * r), (x + 1.3 * r, y), (x, y + 1.3 * r), (x - 1.3 * r, y))
        return tag("polygon", points=" ".join(f"{_shown(a)},{_shown(b)}" for a, b in corners), class_=class_)
    if shape == "cross":
        strokes = f"M{_shown(x - r)} {_shown(y - r)}L{_shown(x + r)} {_shown(y + r)}"
        strokes += f"M{_shown(x - r)} {_shown(y + r)}L{_shown(x + r)} {_shown(y - r)}"
        return tag("path", d=strokes, class_=f"{class_} stroke")
    return tag("circle", cx=x, cy=y, r=r, class_=class_)


def drawing(canvas: Canvas, body: str, *, key: str, title: str, description: str) -> str:
    """The whole picture, with a title and a description for those who do not see it. `key` is unique in the page."""
    ids = f"{key}-{canvas.name}-t", f"{key}-{canvas.name}-d"
    head = tag("title", escape(printable(title)), id=ids[0]) + tag("desc", escape(printable(description)), id=ids[1])
    return tag(
        "svg",
        head + body,
        viewBox=f"0 0 {canvas.width} {canvas.height}",
        role="img",
        aria_labelledby=" ".join(ids),
        class_=f"plot {canvas.name}",
    )


@dataclass(frozen=True)
class Scale:
    """Maps values from [low, high] to pixels from `start` to `stop`, linearly or by logarithm."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.stop - self.start) * (at - low) / (high - low)

    def ticks(self, wanted: int) -> list[float]:
        """About `wanted` round values within the scale."""
        if not self.log or self.high < 5 * self.low:  # within so little, 1, 2 and 5 would be too few
            return _round_steps(self.low, self.high, wanted)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            ticks = [d * 10.0**k for k in decades for d in digits if self.low <= d * 10.0**k <= self.high]
            if len(ticks) <= wanted + 1:
                return ticks
        return ticks[:: math.ceil(len(ticks) / wanted)]


def padded(
    values: list[float], *, part: float = 0.06, log: bool = False, floor: float | None = None
) -> tuple[float, float]:
    """The range of `values` with a margin of `part` of it at both ends, at no time of zero width."""
    low, high = min(values), max(values)
    if log:
        margin = (high / low) ** part if high > low else 1.1
        return low / margin, high * margin
    margin = (high - low) * part or abs(high) * 0.1 or 1.0
    return (low - margin if floor is None else max(floor, low - margin)), high + margin


def axes(x: Scale, y: Scale, *, x_title: str, y_title: str, x_ticks: list[float], y_ticks: list[float]) -> str:
    """Grid lines, tick labels and the titles of both axes; the vertical axis's title lies flat above it."""
    left, right, bottom, top = x.start, x.stop, y.start, y.stop
    parts = [line(left, y(v), right, y(v), "grid") + label(left - 8, y(v) + 4, tick(v), anchor="end") for v in y_ticks]
    parts += [label(x(v), bottom + 18, tick(v), anchor="middle") for v in x_ticks]
    parts.append(line(left, bottom, right, bottom, "axis"))
    parts.append(label(0, top - 14, y_title, class_="title"))
    parts.append(label(right, bottom + 38, x_title, anchor="end", class_="title"))
    return "".join(parts)


def tick(value: float) -> str:
    """A round value beside an axis."""
    if abs(value) >= 1e4:
        return f"{plain(value / 1000)}k" if abs(value) < 1e6 else significant(value, 1)
    return plain(value) if abs(value) >= 1e-3 or value == 0 else significant(value, 1)


def _round_steps(low: float, high: float, wanted: int) -> list[float]:
    rough = (high - low) / max(1, wanted)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
