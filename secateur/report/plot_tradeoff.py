"""Speed against quality: a point per variant with its 95 % intervals, a panel per text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from secateur.contract.measurements import Interval, Measurement
from secateur.contract.metric_row import Metric, uncapitalised
from secateur.contract.metrics import KL, PERPLEXITY, TOKENS_PER_SECOND
from secateur.contract.readings import Reading, Variant, cell_name
from secateur.report.picture import LegendEntry, Picture, look, one
from secateur.report.svg import Canvas, Scale, axes, drawing, label, line, mark, padded
from secateur.report.text import one_line


@dataclass(frozen=True)
class Point:
    variant: str
    index: int  # its place among the variants
    speed: Interval  # tokens per second
    quality: float
    low: float
    high: float


def tradeoffs(variants: list[Measurement]) -> Iterator[Picture]:
    """A picture for each text's KL divergence, then for each text's perplexity; none where speed was not measured."""
    timed = [(index, m) for index, m in enumerate(variants) if m.latency]
    if len(timed) < 2:
        return
    for metric in (KL, PERPLEXITY):
        read = {index: metric.read(Variant(m)) for index, m in enumerate(variants)}
        subjects = {reading.subject.key: reading.subject for readings in read.values() for reading in readings}
        for number, (key, subject) in enumerate(subjects.items()):
            points = []
            for index, m in timed:
                reading = next((reading for reading in read[index] if reading.subject.key == key), None)
                if reading is None and index == 0 and metric.at_original is not None:
                    reading = Reading(metric.at_original)
                if reading is not None:
                    points.append(_point(m, index, reading))
            yield from _picture(metric, number, one_line(subject.place), cell_name(timed[0][1].latency[0]), points)


def _point(m: Measurement, index: int, reading: Reading) -> Point:
    """Where there is no interval, the point stands without one."""
    low, high = (reading.value if end is None else end for end in (reading.low, reading.high))
    return Point(m.variant, index, m.latency[0].tokens_per_second, reading.value, low, high)


def _picture(metric: Metric, number: int, text: str, cell: str, points: list[Point]) -> Iterator[Picture]:
    points = [p for p in points if all(math.isfinite(v) for v in (p.quality, p.low, p.high))]
    if len(points) < 2:
        return
    key, name = f"{metric.name}-{number}", metric.title
    title = f"Speed against {uncapitalised(name)}"
    y_title = f"{metric.axis}, {metric.better} is better"
    description = "; ".join(
        f"{p.variant}: {TOKENS_PER_SECOND.format.write(p.speed.median)} tokens per second, "
        f"{name} {metric.format.write(p.quality)}"
        for p in points
    )

    def draw(canvas: Canvas) -> str:
        return drawing(
            canvas, _draw(canvas, points, y_title), key=key, title=f"{title}, {text}", description=description
        )

    drawings = one(draw, height=280)
    legend = tuple(LegendEntry(*look(p.index), one_line(p.variant, limit=40)) for p in points)
    caption = f"{name} on {text}. Speed at {cell}. To the right and down is better. Bars: 95 % intervals."
    yield Picture(key, title, caption, drawings, legend)


def _draw(canvas: Canvas, points: list[Point], y_title: str) -> str:
    speeds = [v for p in points for v in (p.speed.low, p.speed.high)]
    x = Scale(*padded(speeds, part=0.12, floor=0.0), 52, canvas.width - 12)
    qualities = [v for p in points for v in (p.low, p.high)]
    y = Scale(*padded(qualities, part=0.12), canvas.height - 48, 30)
    ticks = [v for v in y.ticks(5) if v >= 0]
    x_ticks = x.ticks(4 if canvas.narrow else 7)
    parts = [axes(x, y, x_title=uncapitalised(TOKENS_PER_SECOND.axis), y_title=y_title, x_ticks=x_ticks, y_ticks=ticks)]
    taken = [(x(p.speed.median), y(p.quality)) for p in points]
    for p in points:
        shape, class_ = look(p.index)
        cx, cy = x(p.speed.median), y(p.quality)
        parts.append(line(x(p.speed.low), cy, x(p.speed.high), cy, f"whisker {class_}"))
        parts.append(line(cx, y(p.low), cx, y(p.high), f"whisker {class_}"))
        parts.append(mark(shape, cx, cy, 5, class_))
        for at in (cy - 12, cy + 20):  # above or below; a point in a crowd is told by its mark and the legend
            if y.stop + 8 <= at <= y.start - 4 and all(abs(at - ty) > 13 or abs(cx - tx) > 90 for tx, ty in taken):
                taken.append((cx, at))
                right_half = cx > (x.start + x.stop) / 2
                shift, anchor = (-9, "end") if right_half else (9, "start")
                parts.append(label(cx + shift, at, p.variant, anchor=anchor, class_="name halo"))
                break
    return "".join(parts)
