"""A sweep's points as rows of text: what they differ in, their figures, and how they stand among each other.

Every column that can be sorted by gives each of its cells a rank, best first, so that whoever shows the table need not
know how figures compare.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secateur.contract import numbers as n
from secateur.contract.jobs import Verdict
from secateur.contract.metric_row import Metric
from secateur.contract.metrics import METRICS
from secateur.contract.options.gates import GATES
from secateur.contract.sweep_report import PointResult, SweepReport
from secateur.report.text import one_line

VALUE_CHARACTERS = 60  # of what a point differs in


@dataclass(frozen=True)
class Column:
    """One thing that all rows tell."""

    key: str  # its own within the table
    title: str
    figure: bool = False  # whether it is of a metric


@dataclass(frozen=True)
class Cell:
    text: str
    rank: int  # among the cells of the column, from 0: the best, or the first
    interval: str = ""


@dataclass(frozen=True)
class Row:
    point: PointResult
    recommended: bool
    cells: tuple[Cell, ...]  # as the columns
    standing: str  # in words

    @property
    def greyed(self) -> bool:
        """Whether it is no choice: another point is better, or there is no figure."""
        return self.point.standing not in ("front", "apart")


@dataclass(frozen=True)
class SweepTable:
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def sweep_table(report: SweepReport) -> SweepTable:
    """What differs, then the figures that people see first and those that were asked for, then the verdict."""
    changed = _changed(report.points)
    columns: list[tuple[Column, list[Cell]]] = []
    for number, name in enumerate(changed):
        columns.append((Column(f"c{number}", one_line(name)), _given([point.changes for point in report.points], name)))
    for metric in shown_metrics(report):
        columns.append((Column(metric.name, metric.label, figure=True), _figures(report.points, metric)))
    if any(point.gates for point in report.points):
        verdicts = [point.verdict for point in report.points]
        columns.append((Column("verdict", "Gates"), _verdicts(verdicts)))
    return SweepTable(
        tuple(column for column, _ in columns),
        tuple(
            Row(
                point,
                point.place == report.recommended,
                tuple(cells[at] for _, cells in columns),
                standing_in_words(point),
            )
            for at, point in enumerate(report.points)
        ),
    )


def shown_metrics(report: SweepReport) -> list[Metric]:
    """Those of the table, where a point has them: headlines, the two that points are compared by, and gated ones."""
    gated = {metric.name for name, metric in GATES.items() if report.gates.get(name) is not None}
    asked = gated | {report.x.metric, report.y.metric}
    there = {name for point in report.points for name in point.figures}
    return [m for m in METRICS.values() if m.name in there and (m.headline or m.name in asked)]


def standing_in_words(point: PointResult) -> str:
    """ "on the front", "dominated by 3", "dominated by 3, within noise", "apart: …"."""
    if point.standing == "front":
        return "on the front"
    if point.standing == "dominated":
        return f"dominated by {point.dominated_by}" + ("" if point.shown else ", within noise")
    return f"{point.standing}: {one_line(point.note)}" if point.note else point.standing


def change_in_words(value: Any) -> str:
    """A value of the spec as people write it: taylor, 0.2, {"kind": "none"}."""
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return one_line(words, limit=VALUE_CHARACTERS)


def _changed(points: Sequence[PointResult]) -> list[str]:
    """The fields in which points differ; those with one value wherever they stand are behind the others."""
    values: dict[str, list[Any]] = {}
    for point in points:
        for name, value in point.changes.items():
            values.setdefault(name, []).append(value)
    return sorted(values, key=lambda name: all(value == values[name][0] for value in values[name]))


def _given(changes: Sequence[Mapping[str, Any]], name: str) -> list[Cell]:
    """Numbers in their order, else words in theirs; those that have none behind them."""
    values = [change[name] for change in changes if name in change]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    key: Callable[[Any], Any] = (lambda value: value) if numbers else change_in_words
    places = {value: rank for rank, value in enumerate(sorted({key(value) for value in values}))}
    return [
        Cell(change_in_words(change[name]), places[key(change[name])])
        if name in change
        else Cell(n.MISSING, len(places))
        for change in changes
    ]


def _figures(points: Sequence[PointResult], metric: Metric) -> list[Cell]:
    found = [point.figures.get(metric.name) for point in points]
    sign = -1 if metric.judged_higher else 1
    ranks = _ranks([(0, sign * figure.value) if figure else (1, 0.0) for figure in found])
    written = metric.judged_format
    return [
        Cell(written.write(figure.value), rank, written.span(figure.low, figure.high))
        if figure
        else Cell(n.MISSING, rank)
        for figure, rank in zip(found, ranks, strict=True)
    ]


def _verdicts(verdicts: Sequence[Verdict]) -> list[Cell]:
    order = (Verdict.PASSED, Verdict.FAILED, Verdict.NONE)
    return [Cell("" if verdict is Verdict.NONE else verdict.value, order.index(verdict)) for verdict in verdicts]


def _ranks(keys: Sequence[Any]) -> list[int]:
    places = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return [places[key] for key in keys]
