"""A sweep's report as Markdown for a pull request: what is recommended and why, then a line for each point."""

from __future__ import annotations

from secateur.contract.numbers import moment
from secateur.contract.sweep_report import SweepReport
from secateur.report.markdown_text import SIGNS, code, escape, prose
from secateur.report.sweep_forms import HTML, MARKDOWN, SWEEP_FORMS
from secateur.report.sweep_table import Cell, Column, Row, sweep_table
from secateur.report.sweep_words import counted, saved_in_words, verdict_in_words


def render(report: SweepReport, *, public_url: str | None = None) -> str:
    """The whole text. `public_url`, where the service can be reached, adds links to the other forms."""
    parts = [
        f"## {SIGNS[report.verdict]} {verdict_in_words(report)}",
        f"{code(report.model)}: {counted(report)}. {prose(report.why)}",
        _table(report),
    ]
    if report.notes:
        parts.append("**Mind when reading**\n\n" + "\n".join(f"- {prose(note)}" for note in report.notes))
    parts += [saved_in_words(report), _footer(report, public_url)]
    return "\n\n".join(parts) + "\n"


def _table(report: SweepReport) -> str:
    table = sweep_table(report)
    head = "".join(f" {escape(column.title)} |" for column in table.columns)
    rule = "".join("--:|" if column.figure else ":--|" for column in table.columns)
    lines = [f"| |{head} |", f"|--:|{rule}:--|", *(_row(row, table.columns) for row in table.rows)]
    return "\n".join(lines)


def _row(row: Row, columns: tuple[Column, ...]) -> str:
    number = f"**{row.point.place}**" if row.recommended else str(row.point.place)
    cells = "".join(f" {_cell(cell, column)} |" for cell, column in zip(row.cells, columns, strict=True))
    standing = "**recommended**" if row.recommended else escape(row.standing)
    return f"| {number} |{cells} {standing} |"


def _cell(cell: Cell, column: Column) -> str:
    words = cell.text if column.figure else escape(cell.text)
    return f"{words} <sub>{cell.interval}</sub>" if cell.interval else words


def _footer(report: SweepReport, public_url: str | None) -> str:
    labels = "".join(f" · {code(f'{name}={value}')}" for name, value in report.labels.items())
    text = f"<sub>Sweep `{report.sweep_id}` of {moment(report.created_at)}{labels}</sub>"
    if public_url is None:
        return text
    base = f"{public_url.rstrip('/')}/sweeps/{report.sweep_id}"
    others = ((form.title, form.file) for form in SWEEP_FORMS.values() if form not in (HTML, MARKDOWN))
    links = (("Full report", HTML.file), *others)
    return " · ".join(f"[{words}](<{base}/{path}>)" for words, path in links) + "\n\n" + text
