"""Speed against quality: a point per variant with its 95 % intervals, a panel per text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from secateur.contract.results import Interval, Measurement
from workers.reporting.numbers import significant
from workers.reporting.picture import LegendEntry, Picture, look, one
from workers.reporting.summary import cell_name
from workers.reporting.svg import Canvas, Scale, axes, drawing, label, line, mark, padded
from workers.reporting.text import one_line


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
    cell = cell_name(timed[0][1].latency[0])
    texts = {f.text.sha256: f.text for m in variants for f in m.fidelity}
    for number, (sha256, text) in enumerate(texts.items()):
        points = []
        for index, m in timed:
            f = next((f for f in m.fidelity if f.text.sha256 == sha256), None)
            if f is not None:
                points.append(_point(m, index, f.kl, f.kl_low, f.kl_high))
            elif index == 0:
                points.append(_point(m, index, 0.0, 0.0, 0.0))  # of the original from itself, by definition
        yield from _picture(f"kl-{number}", "KL divergence", "nats per token", one_line(text.description), cell, points)
    protocols = {(p.text.sha256, p.protocol): p.text for m in variants for p in m.perplexity}
    for number, (key, text) in enumerate(protocols.items()):
        points = []
        for index, m in timed:
            p = next((p for p in m.perplexity if (p.text.sha256, p.protocol) == key), None)
            if p is not None:
                points.append(_point(m, index, p.value, p.low, p.high))
        yield from _picture(f"perplexity-{number}", "Perplexity", "", one_line(text.description), cell, points)


def _point(m: Measurement, index: int, quality: float, low: float | None, high: float | None) -> Point:
    """Where there is no interval, the point stands without one."""
    ends = (quality if end is None else end for end in (low, high))
    return Point(m.variant, index, m.latency[0].tokens_per_second, quality, *ends)


def _picture(key: str, quality: str, unit: str, text: str, cell: str, points: list[Point]) -> Iterator[Picture]:
    points = [p for p in points if all(math.isfinite(v) for v in (p.quality, p.low, p.high))]
    if len(points) < 2:
        return
    title = f"Speed against {quality if quality.startswith('KL') else quality.lower()}"
    y_title = f"{quality}{f' ({unit})' if unit else ''}, lower is better"
    description = "; ".join(
        f"{p.variant}: {significant(p.speed.median)} tokens per second, {quality} {significant(p.quality)}"
        for p in points
    )

    def draw(canvas: Canvas) -> str:
        return drawing(
            canvas, _draw(canvas, points, y_title), key=key, title=f"{title}, {text}", description=description
        )

    drawings = one(draw, height=280)
    legend = tuple(LegendEntry(*look(p.index), one_line(p.variant, limit=40)) for p in points)
    caption = f"{quality} on {text}. Speed at {cell}. To the right and down is better. Bars: 95 % intervals."
    yield Picture(key, title, caption, drawings, legend)


def _draw(canvas: Canvas, points: list[Point], y_title: str) -> str:
    speeds = [v for p in points for v in (p.speed.low, p.speed.high)]
    x = Scale(*padded(speeds, part=0.12, floor=0.0), 52, canvas.width - 12)
    qualities = [v for p in points for v in (p.low, p.high)]
    y = Scale(*padded(qualities, part=0.12), canvas.height - 48, 30)
    ticks = [v for v in y.ticks(5) if v >= 0]
    x_ticks = x.ticks(4 if canvas.narrow else 7)
    parts = [axes(x, y, x_title="tokens per second", y_title=y_title, x_ticks=x_ticks, y_ticks=ticks)]
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
