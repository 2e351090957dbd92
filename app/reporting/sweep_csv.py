"""A sweep's report as CSV (RFC 4180): a line for each point, with every figure in full and its interval."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from secateur.contract.metrics import METRICS
from secateur.contract.sweep_report import SweepReport
from secateur.report.text import printable

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute


def render(report: SweepReport, *, public_url: str | None = None) -> str:
    """The whole table."""
    changed = list(dict.fromkeys(name for point in report.points for name in point.changes))
    there = {name for point in report.points for name in point.figures}
    metrics = [name for name in METRICS if name in there]
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\r\n")
    lines.writerow(
        [
            *("point", *map(_cell, changed), "job", "state", "verdict", "standing", "dominated by", "recommended"),
            *(f"{name}{end}" for name in metrics for end in ("", " low", " high")),
        ]
    )
    for point in report.points:
        figures = [point.figures.get(name) for name in metrics]
        lines.writerow(
            [
                point.place,
                *(_cell(point.changes[name]) if name in point.changes else "" for name in changed),
                *(point.job_id, point.state.value, point.verdict.value, point.standing),
                "" if point.dominated_by is None else point.dominated_by,
                "yes" if point.place == report.recommended else "",
                *(
                    "" if figure is None or value is None else value
                    for figure in figures
                    for value in ((figure.value, figure.low, figure.high) if figure else (None, None, None))
                ),
            ]
        )
    return written.getvalue()


def _cell(value: Any) -> Any:
    """Numbers as they are; words of strangers so that no spreadsheet takes them for a formula."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    words = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return f"'{words}" if words.startswith(_FORMULA) else words
