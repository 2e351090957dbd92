"""A comparison of jobs in words: how the command line and the dashboard write what differs.

Each job is held against the first. The sign of a difference says nothing of better or worse: the finding does, and only
where intervals do not overlap.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from secateur.contract import numbers
from secateur.contract.comparison import Compared, ComparedFigure, JobComparison
from secateur.contract.metrics import METRICS

ABSENT = "–"


def figure_in_words(metric: str, figure: ComparedFigure) -> list[str]:
    """Lines: the value, its interval, and the same against the job's own original."""
    row = METRICS.get(metric)  # None: of a newer service
    if figure.value is None or row is None:
        return [ABSENT if figure.value is None else str(figure.value)]
    lines = [row.format.write(figure.value)]
    interval = row.format.span(figure.low, figure.high)
    paired = figure.against_original
    if interval:
        lines.append(interval)
    if paired is not None and paired.value is not None and row.compares is not None:
        against = row.compares.write(paired.value)
        if paired.low is not None and paired.high is not None:
            against += f" ({row.compares.write(paired.low)} to {row.compares.write(paired.high)})"
        lines.append(f"{against} against its original")
    return lines


def difference_in_words(one: Compared) -> str:
    """The other's value less the job's, as a share of it; of shares in points."""
    row = METRICS.get(one.metric)
    if one.difference is None:
        return ABSENT
    if row is not None and row.format is numbers.PERCENT:
        return numbers.signed_points(one.difference)
    return ABSENT if one.relative is None else numbers.change(one.relative)


def finding_in_words(one: Compared) -> str:
    """Which is better, or why neither is called so."""
    if one.better is not None:
        return f"{one.better} is better"
    if one.difference == 0:
        return "equal"
    return "intervals overlap" if one.overlap else "no intervals" if one.overlap is None else ""


def value_in_words(value: Any, *, there: bool) -> str:
    """One side of a difference between specs."""
    return json.dumps(value, ensure_ascii=False) if there else ABSENT


@dataclass
class Cell:
    """What one job has in a row of figures."""

    lines: list[str] = field(default_factory=list)
    finding: str = ""  # against the first job
    better: bool | None = None  # than the first job; None where that was not shown
    why: str = ""  # why it is not held against the first


@dataclass
class FigureRow:
    """One figure, with a cell for each job."""

    title: str
    of: str
    how: str
    cells: list[Cell]


def figure_rows(comparisons: Sequence[JobComparison]) -> list[FigureRow]:
    """The figures of the first job and of all that were compared with it, in the order of the table of metrics."""
    order = {name: place for place, name in enumerate(METRICS)}
    rows: dict[tuple[str, str], FigureRow] = {}

    def row_of(one: Any) -> FigureRow:
        blank = FigureRow(one.title, one.of, one.how, [Cell() for _ in range(len(comparisons) + 1)])
        return rows.setdefault((one.metric, one.of), blank)

    for place, comparison in enumerate(comparisons, start=1):
        for one in comparison.figures:
            row = row_of(one)
            row.cells[0].lines = figure_in_words(one.metric, one.job)
            difference, better = difference_in_words(one), None if one.better is None else one.better == "other"
            finding = finding_in_words(one) if better is None else "better" if better else "worse"
            told = one.difference != 0 and difference != ABSENT
            row.cells[place] = Cell(
                figure_in_words(one.metric, one.other), f"{difference}, {finding}" if told else finding, better
            )
        for apart in comparison.not_compared:
            row = row_of(apart)
            if apart.job is not None:
                row.cells[0].lines = figure_in_words(apart.metric, apart.job)
            lines = [] if apart.other is None else figure_in_words(apart.metric, apart.other)
            row.cells[place] = Cell(lines, why=apart.why)
    return [rows[key] for key in sorted(rows, key=lambda key: order.get(key[0], len(order)))]


def spec_rows(comparisons: Sequence[JobComparison]) -> list[tuple[str, list[str]]]:
    """(Pointer, what each job's spec has there), where any differs from the first."""
    rows: dict[str, list[str | None]] = {}
    for place, comparison in enumerate(comparisons, start=1):
        for one in comparison.spec:
            row = rows.setdefault(one.pointer, [None] * (len(comparisons) + 1))
            row[0] = value_in_words(one.job, there=one.only != "other")
            row[place] = value_in_words(one.other, there=one.only != "job")
    return [(pointer, [row[0] or ABSENT if cell is None else cell for cell in row]) for pointer, row in rows.items()]
