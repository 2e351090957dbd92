"""A sweep's points by two figures, with their intervals, the front, the limits of the gates and the original."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from secateur.contract.metric_row import Metric, uncapitalised
from secateur.contract.metrics import METRICS
from secateur.contract.options.gates import GATES, is_least
from secateur.contract.sweep_report import Figure, PointResult, SweepReport
from secateur.report.picture import LegendEntry, Picture, both, look
from secateur.report.svg import Canvas, Scale, axes, drawing, label, line, mark, padded, tag
from secateur.report.sweep_series import Series, told_apart
from secateur.report.sweep_table import standing_in_words
from secateur.report.text import one_line, printable

KEY = "pareto"


@dataclass(frozen=True)
class _Limit:
    gate: str
    value: float
    least: bool


@dataclass(frozen=True)
class _Plot:
    """What is drawn, the same at every width."""

    x: Metric
    y: Metric
    points: tuple[PointResult, ...]
    front: tuple[int, ...]
    recommended: int | None
    series: Series
    x_limits: tuple[_Limit, ...]
    y_limits: tuple[_Limit, ...]

    @property
    def original(self) -> tuple[float, float] | None:
        """Where the original stands by definition."""
        if self.x.at_original is None or self.y.at_original is None:
            return None
        return self.x.at_original, self.y.at_original

    def look(self, point: PointResult) -> tuple[str, str]:
        """Shape and colour of a point."""
        return look(1 + self.series.place(point))  # 0 is the original's


def pareto(report: SweepReport) -> Picture | None:
    """None where no point has both figures."""
    x, y = METRICS[report.x.metric], METRICS[report.y.metric]
    points = tuple(point for point in report.points if point.standing in ("front", "dominated"))
    if not points:
        return None
    plot = _Plot(
        x,
        y,
        points,
        tuple(report.front),
        report.recommended,
        told_apart(points),
        _limits(report, x),
        _limits(report, y),
    )
    title = f"{x.label} against {uncapitalised(y.label)}"
    description = "; ".join(f"point {point.place}: {_figures(point, x, y)}" for point in points)

    def draw(canvas: Canvas) -> str:
        return drawing(canvas, _draw(canvas, plot), key=KEY, title=title, description=description)

    return Picture(KEY, title, _caption(plot), both(draw, height=430, phone_height=320), tuple(_legend(plot)))


def _limits(report: SweepReport, metric: Metric) -> tuple[_Limit, ...]:
    return tuple(
        _Limit(name, float(limit), is_least(name))
        for name, gated in GATES.items()
        if gated is metric and (limit := report.gates.get(name)) is not None
    )


def _ends(figure: Figure) -> tuple[float, float]:
    return (
        figure.value if figure.low is None else figure.low,
        figure.value if figure.high is None else figure.high,
    )


def _draw(canvas: Canvas, plot: _Plot) -> str:
    xs = [end for point in plot.points for end in _ends(point.figures[plot.x.name])]
    ys = [end for point in plot.points for end in _ends(point.figures[plot.y.name])]
    if plot.original:
        xs.append(plot.original[0])
        ys.append(plot.original[1])
    x = Scale(
        *padded([*xs, *(limit.value for limit in plot.x_limits)], part=0.08), 56 if canvas.width > 500 else 46,
        canvas.width - 14,
    )  # fmt: skip
    y = Scale(*padded([*ys, *(limit.value for limit in plot.y_limits)], part=0.1), canvas.height - 48, 30)
    parts = [
        axes(
            x,
            y,
            x_title=f"{_axis(plot.x)}, {_better(plot.x)}",
            y_title=f"{_axis(plot.y)}, {_better(plot.y)}",
            x_ticks=x.ticks(4 if canvas.narrow else 8),
            y_ticks=y.ticks(6),
        )
    ]
    for limit in plot.x_limits:
        at = x(limit.value)
        parts += [line(at, y.start, at, y.stop, "limit"), label(at + 5, y.stop + 10, limit.gate, class_="tick halo")]
    for limit in plot.y_limits:
        at = y(limit.value)
        end = label(x.stop, at - 6, limit.gate, anchor="end", class_="tick halo")
        parts += [line(x.start, at, x.stop, at, "limit"), end]
    at_places = {point.place: _at(point, plot, x, y) for point in plot.points}
    if len(plot.front) > 1:
        corners = " ".join(f"{at_places[place][0]:.1f},{at_places[place][1]:.1f}" for place in plot.front)
        parts.append(tag("polyline", points=corners, class_="front"))
    taken: list[tuple[float, float]] = list(at_places.values())
    if plot.original:
        ox, oy = x(plot.original[0]), y(plot.original[1])
        taken.append((ox, oy))
        parts += [
            mark("circle", ox, oy, 4.5, "protected"),
            label(ox, oy + 18, "original", anchor="middle", class_="name halo"),
        ]
    for point in sorted(plot.points, key=lambda point: point.standing == "front"):  # the front on top
        parts += _point(point, plot, x, y, taken)
    return "".join(parts)


def _at(point: PointResult, plot: _Plot, x: Scale, y: Scale) -> tuple[float, float]:
    return x(point.figures[plot.x.name].value), y(point.figures[plot.y.name].value)


def _point(point: PointResult, plot: _Plot, x: Scale, y: Scale, taken: list[tuple[float, float]]) -> list[str]:
    """One group, which says what it is where a pointer rests on it, and by whose number a page finds its row."""
    shape, colour = plot.look(point)
    class_ = colour if point.standing == "front" else "dim"
    (x_low, x_high), (y_low, y_high) = _ends(point.figures[plot.x.name]), _ends(point.figures[plot.y.name])
    cx, cy = _at(point, plot, x, y)
    parts = [
        line(x(x_low), cy, x(x_high), cy, f"whisker {class_}"),
        line(cx, y(y_low), cx, y(y_high), f"whisker {class_}"),
    ]
    if point.place == plot.recommended:
        parts.append(tag("circle", cx=cx, cy=cy, r=11.0, class_="chosen"))
    parts.append(mark(shape, cx, cy, 5.5, class_))
    words = f"{point.place}, recommended" if point.place == plot.recommended else str(point.place)
    right_half = cx > (x.start + x.stop) / 2
    for at in (cy - 13, cy + 21):  # above or below; in a crowd the table tells which point it is
        if y.stop + 4 <= at <= y.start - 2 and all(abs(at - ty) > 11 or abs(cx - tx) > 26 for tx, ty in taken):
            taken.append((cx, at))
            shift, anchor = (-7, "end") if right_half else (7, "start")
            parts.append(label(cx + shift, at, words, anchor=anchor, class_="name halo"))
            break
    told = tag("title", escape(printable(f"{point.place}: {_figures(point, plot.x, plot.y)}")))
    return [tag("g", told + "".join(parts), class_="point", data_place=str(point.place))]


def _figures(point: PointResult, x: Metric, y: Metric) -> str:
    """Both figures, and what they make of the point."""
    figures = (f"{axis.label} {axis.judged_format.write(point.figures[axis.name].value)}" for axis in (x, y))
    return f"{', '.join(figures)}, {standing_in_words(point)}"


def _axis(metric: Metric) -> str:
    return metric.axis if metric.judges == "value" else metric.label


def _better(metric: Metric) -> str:
    return f"{'higher' if metric.judged_higher else 'lower'} is better"


def _legend(plot: _Plot) -> list[LegendEntry]:
    entries = [
        LegendEntry(*look(1 + number), one_line(value, limit=60) or "without")
        for number, value in enumerate(plot.series.values)
    ] or [LegendEntry(*look(1), "on the front")]
    if any(point.standing == "dominated" for point in plot.points):
        entries.append(LegendEntry(look(1)[0], "dim", "dominated: another point is better in both"))
    return entries


def _caption(plot: _Plot) -> str:
    words = "Numbers are those of the points in the table; bars are 95 % intervals."
    if len(plot.front) > 1:
        words += " The line joins the points that no other is better than in both figures."
    if plot.x_limits or plot.y_limits:
        words += " Dashed: limits of the gates."
    return words
