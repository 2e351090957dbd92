"""`secateur compare`: what differs between two jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from secateur.cli.ids import known_form
from secateur.cli.job_ids import JobId, find
from secateur.cli.session import connect, out

if TYPE_CHECKING:
    from secateur.contract.comparison import Compared, ComparedFigure, ComparedJob, JobComparison, SpecDifference

MOST_CHARACTERS = 200  # of one side of a difference in the specs


def compare(
    job_id: JobId,
    other_id: Annotated[
        str, typer.Argument(metavar="OTHER", callback=known_form("job"), help="The one to hold against it.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Show what differs between two jobs that have succeeded, in what was asked and in what was measured.

    A figure is called better only where the two 95 % intervals do not overlap.
    """
    with connect() as client:
        found = client.jobs.compare(find(client, job_id), find(client, other_id))
    if as_json:
        out.print_json(data=found.model_dump(mode="json"))
        return
    for part in comparison_lines(found):
        out.print(part)


def comparison_lines(found: JobComparison) -> Iterator[RenderableType]:
    """The whole comparison."""
    yield _jobs(found)
    if found.spec:
        yield Text("\nAsked differently", style="bold")
        yield _spec(found.spec)
    else:
        yield Text("\nBoth were asked the same.")
    if found.figures:
        yield Text("\nMeasured by both", style="bold")
        yield _figures(found.figures)
    if found.not_compared:
        yield Text("\nNot compared", style="bold")
        yield _apart(found)
    from secateur.report.text import printable  # the whole contract, which takes long to load

    for note in found.notes:
        yield Text.assemble(("note: ", "yellow"), printable(note))


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _jobs(found: JobComparison) -> Table:
    from secateur.contract.numbers import moment

    def rows(job: ComparedJob) -> Sequence[str]:
        gone = ", ".join(map(str, job.blocks_removed)) or "none"
        return str(job.job_id), moment(job.created_at), job.model, job.final_variant, gone, job.verdict.value

    table = _table("", "Job", "Other")
    terms = ("Id", "Created", "Model", "Final variant", "Blocks removed", "Verdict")
    for term, mine, theirs in zip(terms, rows(found.job), rows(found.other), strict=True):
        table.add_row(term, _plain(mine), _plain(theirs))
    return table


def _spec(differences: Sequence[SpecDifference]) -> Table:
    from secateur.report.comparison import value_in_words

    table = _table("Field", "Job", "Other")
    for one in differences:
        mine = value_in_words(one.job, there=one.only != "other")
        theirs = value_in_words(one.other, there=one.only != "job")
        table.add_row(_plain(one.pointer), _plain(mine), _plain(theirs))
    return table


def _figures(figures: Sequence[Compared]) -> Table:
    from secateur.report.comparison import difference_in_words, finding_in_words

    table = _table("Figure", "Job", "Other", "Difference", "")
    for one in figures:
        label = Text.assemble(_plain(one.title), "\n" if one.of else "", (_plain(one.of).plain, "dim"))
        sides = _side(one.metric, one.job), _side(one.metric, one.other)
        table.add_row(label, *sides, difference_in_words(one), finding_in_words(one))
    return table


def _side(metric: str, figure: ComparedFigure) -> RenderableType:
    from secateur.report.comparison import figure_in_words

    value, *beside = figure_in_words(metric, figure)
    return Lines(Text(value), *(Text(line, style="dim") for line in beside))


def _apart(found: JobComparison) -> Table:
    table = _table("Figure", "Why")
    for one in found.not_compared:
        table.add_row(_plain(f"{one.title}, {one.of}" if one.of else one.title), _plain(one.why))
    return table


def _plain(text: str) -> Text:
    """Text of strangers: on one line, of a length that can be read, and without meaning as markup."""
    from secateur.report.text import one_line

    return Text(one_line(text, limit=MOST_CHARACTERS))
