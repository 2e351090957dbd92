"""Throughput against latency: a line for each point of a sweep through its batch sizes, a panel for each size of model
and output length.

So figure 4 of Shortened LLaMA (arXiv 2402.02834) holds methods against each other at equal parameters: the line that
lies further to the left is that of the model that answers sooner, at every batch size.

Every point is timed in turn with the original, in another hour than the next point. So a line is not drawn by the
seconds of its own hour: they are the original's, the median over all points, divided by the point's speedup.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from secateur.contract.metric_row import uncapitalised
from secateur.contract.metrics import PARAMETERS, SECONDS, TOKENS_PER_SECOND
from secateur.contract.numbers import seconds, significant
from secateur.contract.sweep import words_among
from secateur.contract.sweep_report import PointResult, SweepReport
from secateur.report.picture import LegendEntry, Picture, look, one
from secateur.report.svg import Canvas, Scale, axes, drawing, label, line, mark, padded, tag
from secateur.report.sweep_series import Series, told_apart
from secateur.report.text import one_line

KEY = "throughput"
_SAME_SIZE = 0.95  # points with at least this share of the largest one's parameters are of one size
_MOST_SIZES = 4  # that have panels
_MOST_LINES = 8  # in a panel

Cell = tuple[int, int, int]  # sequences, tokens in, tokens out


@dataclass(frozen=True)
class _Spot:
    """A model at one batch size."""

    batch_size: int
    seconds: float
    low: float
    high: float
    tokens: int  # of all sequences together

    def rate(self, seconds: float) -> float:
        return self.tokens / seconds


@dataclass(frozen=True)
class _Line:
    name: str
    number: str  # of the point; empty of the original
    look: tuple[str, str]
    spots: tuple[_Spot, ...]


def throughput(report: SweepReport) -> list[Picture]:
    """A picture for each size and output length; none where no length was timed at two batch sizes."""
    points = [point for point in report.points if point.cells]
    original = _of_original(points)
    lengths = {(tokens_in, tokens_out) for _, tokens_in, tokens_out in original}
    several = [length for length in lengths if len({cell[0] for cell in original if cell[1:] == length}) > 1]
    series, sizes = told_apart(points), _sizes(points)
    told = zip(report.points, words_among([point.changes for point in report.points]), strict=True)
    names = {point.place: series.words(point) or words for point, words in told}
    return [
        _picture(f"{KEY}-{size}-{number}", group[:_MOST_LINES], length, original, series, names)
        for size, group in enumerate(sizes[:_MOST_SIZES])
        for number, length in enumerate(sorted(several))
    ]


def _of_original(points: Sequence[PointResult]) -> dict[Cell, float]:
    """The original's seconds in each cell, the median over the points that it was timed beside."""
    found: dict[Cell, list[float]] = {}
    for point in points:
        for cell in point.cells:
            key = (cell.batch_size, cell.input_tokens, cell.output_tokens)
            found.setdefault(key, []).append(cell.original_seconds)
    return {cell: median(taken) for cell, taken in found.items()}


def _parameters(point: PointResult) -> float:
    return point.figures[PARAMETERS.name].value


def _sizes(points: Sequence[PointResult]) -> list[list[PointResult]]:
    """Points of about equal parameters together, the largest first; all together where no two are of one size."""
    sizes: list[list[PointResult]] = []
    for point in sorted(points, key=_parameters, reverse=True):
        if sizes and _parameters(point) >= _SAME_SIZE * _parameters(sizes[-1][0]):
            sizes[-1].append(point)
        else:
            sizes.append([point])
    if all(len(group) == 1 for group in sizes):
        sizes = [[point for group in sizes for point in group]] if sizes else []
    return [sorted(group, key=lambda point: point.place) for group in sizes]


def _picture(
    key: str,
    group: Sequence[PointResult],
    length: tuple[int, int],
    original: Mapping[Cell, float],
    series: Series,
    names: Mapping[int, str],
) -> Picture:
    lines = [
        _Line("original", "", look(0), tuple(_original_spots(original, length))),
        *(
            _Line(
                names[point.place],
                str(point.place),
                look(1 + (series.place(point) if series.fields else number)),
                tuple(_spots(point, length, original)),
            )
            for number, point in enumerate(group)
        ),
    ]
    title = f"Throughput at {length[0]} + {length[1]} tokens, {_in_millions(group)}"
    description = "; ".join(
        f"{one.name}, batch {spot.batch_size}: {seconds(spot.seconds)}, "
        f"{significant(spot.rate(spot.seconds))} tokens per second"
        for one in lines
        for spot in one.spots
    )

    def draw(canvas: Canvas) -> str:
        return drawing(canvas, _draw(canvas, lines), key=key, title=title, description=description)

    legend = tuple(
        LegendEntry(*one.look, f"{one.number}: {one_line(one.name, limit=60)}" if one.number else one.name)
        for one in lines
    )
    caption = (
        "A line joins the batch sizes of one model; further left is sooner. Bars: 95 % intervals. Seconds: the "
        "original's over the speedup that was measured in turn with it."
    )
    return Picture(key, title, caption, one(draw, height=300), legend)


def _in_millions(group: Sequence[PointResult]) -> str:
    """ "106 to 108 million parameters"."""
    least, most = (significant(end(map(_parameters, group)) / 1e6) for end in (min, max))
    return f"{least if least == most else f'{least} to {most}'} million parameters"


def _original_spots(original: Mapping[Cell, float], length: tuple[int, int]) -> Iterator[_Spot]:
    for (batch_size, *rest), taken in sorted(original.items()):
        if tuple(rest) == length:
            yield _Spot(batch_size, taken, taken, taken, batch_size * length[1])


def _spots(point: PointResult, length: tuple[int, int], original: Mapping[Cell, float]) -> Iterator[_Spot]:
    for cell in sorted(point.cells, key=lambda cell: cell.batch_size):
        if (cell.input_tokens, cell.output_tokens) == length:
            taken, fast = original[cell.batch_size, *length], cell.speedup
            yield _Spot(
                cell.batch_size,
                taken / fast.median,
                taken / fast.high,
                taken / fast.low,
                cell.batch_size * cell.output_tokens,
            )


def _draw(canvas: Canvas, lines: Sequence[_Line]) -> str:
    spots = [spot for model in lines for spot in model.spots]
    ends = [end for spot in spots for end in (spot.low, spot.high)]
    rates = [spot.rate(end) for spot in spots for end in (spot.low, spot.high)]
    x = Scale(*padded(ends, part=0.1, log=True), 52, canvas.width - 52, log=True)
    y = Scale(*padded(rates, part=0.1, log=True), canvas.height - 48, 30, log=True)
    parts = [
        axes(
            x,
            y,
            x_title=f"{uncapitalised(SECONDS.title)} (s)",
            y_title=uncapitalised(TOKENS_PER_SECOND.axis),
            x_ticks=x.ticks(6),
            y_ticks=y.ticks(6),
        )
    ]
    for model in lines:
        class_ = model.look[1]
        corners = " ".join(f"{x(spot.seconds):.1f},{y(spot.rate(spot.seconds)):.1f}" for spot in model.spots)
        parts.append(tag("polyline", points=corners, class_=f"curve {class_}"))
    for model in lines:
        shape, class_ = model.look
        for spot in model.spots:
            bar = (x(spot.low), y(spot.rate(spot.low)), x(spot.high), y(spot.rate(spot.high)))
            parts += [
                line(*bar, f"whisker {class_}"),
                mark(shape, x(spot.seconds), y(spot.rate(spot.seconds)), 4, class_),
            ]
    for spot in lines[0].spots:  # of the original, the slowest where pruning helps, so there is room on its right
        at = x(spot.seconds), y(spot.rate(spot.seconds))
        parts.append(label(at[0] + 8, at[1] + 14, f"batch {spot.batch_size}", class_="name halo"))
    return "".join(parts)
