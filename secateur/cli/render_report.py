"""A report for a terminal: the first figures, the gates, what to mind, every figure, and what was done.

A table has a column per variant, as the page has. Where the terminal is too narrow for all of them, they are shown in
several tables, each with the original in front.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from secateur.cli.render import gates_table, styled
from secateur.contract.numbers import moment
from secateur.report.figures import Cell, Group, groups, headlines
from secateur.report.gates import verdict_in_words
from secateur.report.text import printable
from secateur.report.words import change_in_words
from secateur.report.work import machine_in_words, work_in_words

if TYPE_CHECKING:
    from secateur.contract.report import Report

LABELS = 22  # characters for the names of the figures
COLUMN = 19  # characters for a variant: "± 1.10 %, p 0.0030" and a space


def report_lines(report: Report, *, width: int) -> Iterator[RenderableType]:
    """The whole report, within `width` characters."""
    yield _headlines(report)
    yield Text()
    if report.gates:
        yield gates_table(report)
    for note in report.notes:
        yield Text.assemble(("note: ", "yellow"), printable(note))
    variants = [m.variant for m in report.benchmarks.variants]
    at_once = max(2, (width - LABELS) // COLUMN)
    for group in groups(report):
        yield from _figures(group, variants, at_once=at_once, width=width)
    yield _facts(report)


def _headlines(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("[bold]Model", escape(report.model.id))
    table.add_row("", escape(change_in_words(report)))
    for headline in headlines(report):
        table.add_row(f"[bold]{headline.label}", Text.assemble((headline.value, "bold"), f"  {headline.detail}"))
    table.add_row("[bold]Verdict", f"{styled(report.verdict.value)}: {verdict_in_words(report)}")
    return table


def _figures(group: Group, variants: Sequence[str], *, at_once: int, width: int) -> Iterator[RenderableType]:
    """One group, in as many tables as it takes."""
    yield Text(f"\n{group.heading}", style="bold")
    if group.how:
        yield Text(group.how, style="dim")
    for number, columns in enumerate(_parts(len(variants), at_once)):
        if number:
            yield Text()
        table = Table(box=None, padding=(0, 1, 0, 0), width=min(width, LABELS + COLUMN * len(columns)))
        table.add_column("", width=LABELS - 1)
        for column in columns:
            table.add_column(variants[column], justify="right", width=COLUMN - 1, overflow="fold")
        for row in group.rows:
            label = Text.assemble(row.label, (f"\n{row.how}" if row.how else "", "dim"))
            table.add_row(label, *(_cell(row.cells[column]) for column in columns))
        yield table


def _parts(count: int, at_once: int) -> Iterator[list[int]]:
    """Columns of each table: all of them where there is room, else the original with as many others as there is."""
    others = list(range(1, count))
    for start in range(0, max(1, len(others)), at_once - 1):
        yield [0, *others[start : start + at_once - 1]]


def _cell(cell: Cell) -> RenderableType:
    small = [Text(part, style="dim", justify="right") for part in (cell.change, cell.interval) if part]
    return Lines(Text(cell.value, justify="right"), *small)


def _facts(report: Report) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for term, words in [*work_in_words(report), ("Measured on", machine_in_words(report.benchmarks.environment))]:
        table.add_row(Text(term, style="bold"), Text(printable(words)))
    table.add_row(Text("Job", style="bold"), f"{report.job_id} of {moment(report.created_at)}")
    return Lines(Text("\nWhat was done", style="bold"), table)
