"""A sweep's report as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from secateur.cli.render import styled
from secateur.contract.sweep_report import SweepReport
from secateur.report.sweep_table import Row, sweep_table
from secateur.report.sweep_words import counted, saved_in_words, verdict_in_words
from secateur.report.text import printable


def sweep_lines(report: SweepReport) -> Iterator[RenderableType]:
    """What is recommended and why, then every point."""
    title = f"{styled(report.verdict.value)}: " if report.verdict != "none" else ""
    yield f"{title}[bold]{verdict_in_words(report)}[/]"
    yield Text(f"{counted(report)}. {printable(report.why)}")
    yield _points(report)
    for note in report.notes:
        yield Text.assemble(("note: ", "yellow"), printable(note))
    yield Text(saved_in_words(report), style="dim")


def _points(report: SweepReport) -> Table:
    found = sweep_table(report)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", justify="right", no_wrap=True)
    for column in found.columns:
        table.add_column(escape(column.title), justify="right" if column.figure else "left", overflow="fold")
    table.add_column("Standing", overflow="fold")
    for row in found.rows:
        cells = [escape(cell.text) + (f"\n[dim]{cell.interval}[/]" if cell.interval else "") for cell in row.cells]
        standing = "[green]recommended[/]" if row.recommended else escape(row.standing)
        table.add_row(str(row.point.place), *cells, standing, style=_style(row))
    return table


def _style(row: Row) -> str:
    return "bold" if row.recommended else "dim" if row.greyed else ""
