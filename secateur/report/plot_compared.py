"""Curves of several jobs in one plot: the importance of each block, and the loss over the steps.

A job looks alike in every plot: a colour, a shape and a pattern of dashes of its own, so that none of them has to be
told apart by its colour alone. A mark says what it stands for where a pointer rests on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from secateur.contract.catalog import CRITERIA
from secateur.contract.numbers import significant
from secateur.contract.report import Report
from secateur.contract.results import LossPoint, Scores
from secateur.report.picture import LegendEntry, Picture, both, look
from secateur.report.plot_importance import LOG_FROM
from secateur.report.svg import Canvas, Scale, axes, drawing, mark, padded, tag
from secateur.report.text import printable

DASHES = 5  # patterns that plot_style.py has
MOST_MARKS = 12  # on a curve; more would hide its dashes
EVERY_BLOCK = 40  # blocks of which each still has its mark


@dataclass(frozen=True)
class Curve:
    """One job's line."""

    name: str
    points: list[tuple[float, float]]
    place: int  # of the job among those compared, from 0

    @property
    def shape(self) -> str:
        return look(self.place)[0]

    @property
    def class_(self) -> str:
        """Its colour and its dashes."""
        return f"{look(self.place)[1]} dash{self.place % DASHES}"


def compared(jobs: Sequence[tuple[str, Report]]) -> list[Picture]:
    """The plots that at least two of the jobs have a curve in; names are told in the legends."""
    made = [
        _importance([(name, report.scores, place) for place, (name, report) in enumerate(jobs)]),
        _loss(jobs, "loss", "Training loss", lambda point: point.loss),
        _loss(jobs, "validation-loss", "Validation loss", lambda point: point.validation_loss),
    ]
    return [picture for picture in made if picture is not None]


def _importance(jobs: Sequence[tuple[str, Scores | None, int]]) -> Picture | None:
    found = [(name, scores, place) for name, scores, place in jobs if scores is not None and scores.blocks]
    if len(found) < 2:
        return None
    criteria = list(dict.fromkeys(scores.criterion for _, scores, _ in found))
    by_value = len(criteria) == 1 and all(_finite(scores) * 2 >= len(scores.blocks) for _, scores, _ in found)
    curves = [Curve(name, _values(scores) if by_value else _places(scores), place) for name, scores, place in found]
    curves = [curve for curve in curves if curve.points]
    if len(curves) < 2:
        return None
    title = CRITERIA[criteria[0]].title if criteria[0] in CRITERIA else criteria[0]
    values = [value for curve in curves for _, value in curve.points]
    log = by_value and min(values) > 0 and max(values) / min(values) >= LOG_FROM
    axis = f"{title.lower()} score{', log scale' if log else ''}" if by_value else "place in the order of removal"
    caption = "The lower, the less important."
    if len(criteria) > 1:
        caption += " The criteria differ, so it is the order of removal that is drawn: the first is 1."
    elif not by_value:
        caption += " The criterion orders the blocks without a score for each."
    return _picture("importance", "Importance of each block", caption, curves, x_title="block", y_title=axis, log=log)


def _finite(scores: Scores) -> int:
    return sum(block.value is not None and math.isfinite(block.value) for block in scores.blocks)


def _values(scores: Scores) -> list[tuple[float, float]]:
    return [(s.block, s.value) for s in scores.blocks if s.value is not None and math.isfinite(s.value)]


def _places(scores: Scores) -> list[tuple[float, float]]:
    return sorted((block, place) for place, block in enumerate(scores.order, start=1))


def _loss(
    jobs: Sequence[tuple[str, Report]], key: str, title: str, of: Callable[[LossPoint], float | None]
) -> Picture | None:
    curves = []
    for place, (name, report) in enumerate(jobs):
        told = [(point.step, of(point)) for point in (report.recovered.curve if report.recovered else [])]
        points = [(float(step), value) for step, value in told if value is not None and math.isfinite(value)]
        if points:
            curves.append(Curve(name, points, place))
    if len(curves) < 2:
        return None
    caption = "Losses of different texts, or against different teachers, do not compare; how each falls does."
    return _picture(key, title, caption, curves, x_title="optimiser step", y_title="loss, nats per token", floor=0.0)


def _picture(
    key: str,
    title: str,
    caption: str,
    curves: Sequence[Curve],
    *,
    x_title: str,
    y_title: str,
    log: bool = False,
    floor: float | None = None,
) -> Picture:
    description = "; ".join(
        f"{curve.name}: from {significant(curve.points[0][1])} at {x_title} {curve.points[0][0]:g} to "
        f"{significant(curve.points[-1][1])} at {curve.points[-1][0]:g}"
        for curve in curves
    )

    def draw(canvas: Canvas) -> str:
        body = _draw(canvas, curves, x_title=x_title, y_title=y_title, log=log, floor=floor)
        return drawing(canvas, body, key=f"compared-{key}", title=title, description=f"{description}.")

    legend = tuple(LegendEntry(curve.shape, curve.class_, curve.name, line=True) for curve in curves)
    return Picture(f"compared-{key}", title, caption, both(draw, height=300, phone_height=260), legend)


def _draw(
    canvas: Canvas, curves: Sequence[Curve], *, x_title: str, y_title: str, log: bool, floor: float | None
) -> str:
    xs = [at for curve in curves for at, _ in curve.points]
    low, high = padded([value for curve in curves for _, value in curve.points], part=0.08, log=log, floor=floor)
    x = Scale(*padded(xs, part=0.02), 52, canvas.width - 12)
    y = Scale(low, high, canvas.height - 48, 30, log=log)
    x_ticks = [value for value in x.ticks(4 if canvas.narrow else 8) if value.is_integer() and value >= 0]
    parts = [axes(x, y, x_title=x_title, y_title=y_title, x_ticks=x_ticks, y_ticks=y.ticks(5))]
    for curve in curves:
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in curve.points)
        parts.append(tag("polyline", points=path, class_=f"curve {curve.class_}"))
    for curve in curves:
        for at, value in _marked(curve):
            words = escape(printable(f"{curve.name}: {significant(value)} at {x_title} {at:g}"))
            point = mark(curve.shape, x(at), y(value), 3.2, look(curve.place)[1])
            parts.append(tag("g", tag("title", words) + point))
    return "".join(parts)


def _marked(curve: Curve) -> list[tuple[float, float]]:
    """The points that have a mark: all of few, else some, those of different jobs at different places."""
    if len(curve.points) <= EVERY_BLOCK:
        return curve.points
    every = math.ceil(len(curve.points) / MOST_MARKS)
    return curve.points[curve.place * every // DASHES :: every]
