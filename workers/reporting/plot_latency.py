"""The latency grid: each variant's speedup over the original, cell by cell, beside the machine's own noise."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.results import Interval, Measurement
from workers.reporting.numbers import percent, ratio, span
from workers.reporting.picture import LegendEntry, Picture, both, look
from workers.reporting.summary import cell_name
from workers.reporting.svg import Canvas, Scale, drawing, label, line, mark, padded, tag, tick
from workers.reporting.text import one_line

ROW = 36  # pixels for each cell and variant
TOP, BOTTOM = 14, 44


@dataclass(frozen=True)
class Timed:
    name: str  # the cell
    variant: str
    index: int
    speedup: Interval
    noise: float | None


def latency(variants: list[Measurement]) -> Picture | None:
    """A row per cell and variant, grouped by cell; None where no speedup was measured."""
    rows = [
        Timed(cell_name(cell), m.variant, index, cell.speedup, cell.noise)
        for index, m in enumerate(variants)
        for cell in m.latency
        if cell.speedup is not None
    ]
    if not rows:
        return None
    names = list(dict.fromkeys(row.name for row in rows))
    rows.sort(key=lambda row: (names.index(row.name), row.index))
    title = "Speedup over the original"
    description = "; ".join(
        f"{row.variant}, {row.name}: {ratio(row.speedup.median)} ({span(row.speedup.low, row.speedup.high)})"
        for row in rows
    )
    noise = max((row.noise for row in rows if row.noise is not None), default=None)

    def draw(canvas: Canvas) -> str:
        return drawing(canvas, _draw(canvas, rows, noise), key="latency", title=title, description=description)

    wide, narrow = both(draw, height=TOP + BOTTOM + ROW * len(rows))
    seen = {row.index: row.variant for row in rows}
    legend = tuple(LegendEntry(*look(index), one_line(name, limit=40)) for index, name in seen.items())
    caption = "Original and variants timed in turn; median of the paired ratios, bars: 95 % bootstrap intervals."
    if noise is not None:
        caption += f" Grey: how far the original differs from itself on this machine, {percent(noise)} either way."
    return Picture("latency", title, caption, wide, narrow, legend)


def _draw(canvas: Canvas, rows: list[Timed], noise: float | None) -> str:
    band = noise or 0.0
    ends = [1 - band, 1 + band, *(v for row in rows for v in (row.speedup.low, row.speedup.high))]
    x = Scale(*padded(ends, part=0.08, floor=0.0), 8, canvas.width - 12)
    bottom = canvas.height - BOTTOM
    parts = []
    if noise:
        width = x(1 + noise) - x(1 - noise)
        parts.append(tag("rect", x=x(1 - noise), y=TOP, width=width, height=bottom - TOP, class_="noise"))
    for value in x.ticks(5 if canvas.narrow else 9):
        parts.append(line(x(value), TOP, x(value), bottom, "grid"))
        parts.append(label(x(value), bottom + 18, f"{tick(value)}×", anchor="middle"))
    parts.append(line(x(1), TOP, x(1), bottom, "axis"))
    parts.append(label(canvas.width - 12, bottom + 38, "speedup in generation", anchor="end", class_="title"))
    for number, row in enumerate(rows):
        shape, class_ = look(row.index)
        y = TOP + ROW * number + ROW * 0.72
        words = f"{one_line(row.variant, limit=24)}, {row.name}: {ratio(row.speedup.median)}"
        parts.append(label(8, y - 11, words, class_="name halo"))
        parts.append(line(x(row.speedup.low), y, x(row.speedup.high), y, f"whisker {class_}"))
        parts.append(mark(shape, x(row.speedup.median), y, 4.5, class_))
    return "".join(parts)
