"""The latency grid: each variant's speedup over the original, cell by cell, beside the machine's own noise."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.contract.measurements import Interval, Measurement
from secateur.contract.metric_row import uncapitalised
from secateur.contract.metrics import SPEEDUP
from secateur.contract.readings import cell_name
from secateur.report.picture import LegendEntry, Picture, both, look
from secateur.report.svg import Canvas, Scale, drawing, label, line, mark, padded, tag, tick
from secateur.report.text import one_line

ROW, PHONE_ROW = 28, 40  # pixels for each cell and variant; on a phone its name stands above its bar
NAMES = 250  # pixels for the names beside the bars
TOP, BOTTOM = 6, 44
AXIS = f"{uncapitalised(SPEEDUP.axis)} in generation"


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
    title, written = f"{SPEEDUP.title} over the original", SPEEDUP.format
    description = "; ".join(
        f"{row.variant}, {row.name}: {written.write(row.speedup.median)} "
        f"({written.span(row.speedup.low, row.speedup.high)})"
        for row in rows
    )

    def draw(canvas: Canvas) -> str:
        return drawing(canvas, _draw(canvas, rows), key="latency", title=title, description=description)

    drawings = both(draw, height=TOP + BOTTOM + ROW * len(rows), phone_height=TOP + BOTTOM + PHONE_ROW * len(rows))
    seen = {row.index: row.variant for row in rows}
    legend = tuple(LegendEntry(*look(index), one_line(name, limit=40)) for index, name in seen.items())
    caption = "Original and variants timed in turn; median of the paired ratios, bars: 95 % bootstrap intervals."
    if any(row.noise for row in rows):
        caption += " Grey: how far the original differs from itself on this machine."
    return Picture("latency", title, caption, drawings, legend)


def _draw(canvas: Canvas, rows: list[Timed]) -> str:
    ends = [1.0, *(v for row in rows for v in (row.speedup.low, row.speedup.high))]
    ends += [1 + sign * row.noise for row in rows if row.noise for sign in (-1, 1)]
    x = Scale(*padded(ends, part=0.08, floor=0.0), 8 if canvas.narrow else NAMES, canvas.width - 12)
    bottom = canvas.height - BOTTOM
    height = PHONE_ROW if canvas.narrow else ROW
    parts = []
    for number, row in enumerate(rows):
        if row.noise:
            left, right = x(max(1 - row.noise, x.low)), x(1 + row.noise)
            parts.append(
                tag("rect", x=left, y=TOP + height * number, width=right - left, height=height, class_="noise")
            )
    for value in x.ticks(4 if canvas.narrow else 7):
        parts.append(line(x(value), TOP, x(value), bottom, "grid"))
        parts.append(label(x(value), bottom + 18, f"{tick(value)}×", anchor="middle"))
    parts.append(line(x(1), TOP, x(1), bottom, "axis"))
    parts.append(label(canvas.width - 12, bottom + 38, AXIS, anchor="end", class_="title"))
    for number, row in enumerate(rows):
        shape, class_ = look(row.index)
        y = TOP + height * number + height * (0.74 if canvas.narrow else 0.5)
        words = f"{one_line(row.variant, limit=24)}, {row.name}"
        parts.append(
            label(8, y - 12, f"{words}: {SPEEDUP.format.write(row.speedup.median)}", class_="name halo")
            if canvas.narrow
            else label(0, y + 4, words, class_="name")
        )
        parts.append(line(x(row.speedup.low), y, x(row.speedup.high), y, f"whisker {class_}"))
        parts.append(mark(shape, x(row.speedup.median), y, 4.5, class_))
    return "".join(parts)
