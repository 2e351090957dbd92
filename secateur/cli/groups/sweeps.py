"""`secateur sweeps`: list, show, report on, cancel, retry and delete sweeps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from secateur.cli.job_ids import short
from secateur.cli.render import styled
from secateur.cli.results import TABLE
from secateur.cli.session import asks_service, connect, err, out, usage
from secateur.cli.sweep_ids import SweepId, find
from secateur.contract.numbers import age
from secateur.report.sweep_forms import SWEEP_FORMS
from secateur.whole_files import write_whole

if TYPE_CHECKING:
    from secateur.contract.jobs import State
    from secateur.schemas.sweeps import Sweep, SweepSummary

AsJson = Annotated[bool, typer.Option("--json", help="Print the sweep as JSON.")]

commands = typer.Typer(
    help="List, show, report on, cancel, retry and delete sweeps: many jobs of one spec.", no_args_is_help=True
)


@commands.command("list")
@asks_service
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List sweeps, the newest first, each with the end of its id, which other commands take."""
    with connect() as client:
        found = list(islice(client.sweeps(page_size=min(limit, 100)), limit))
    if as_json:
        for sweep in found:
            print(json.dumps(sweep.model_dump(mode="json")))
        return
    out.print(_sweeps(found, now=datetime.now(UTC)) if found else "no sweeps")


@commands.command()
@asks_service
def show(sweep_id: SweepId, as_json: AsJson = False) -> None:
    """Show a sweep with its points and how their jobs stand."""
    with connect() as client:
        _tell(client.sweep(find(client, sweep_id)), as_json=as_json)


Metric = Annotated[str | None, typer.Option(metavar="METRIC", help="A figure to compare by, such as kl or parameters.")]


@commands.command()
@asks_service
def report(
    sweep_id: SweepId,
    x: Metric = None,
    y: Metric = None,
    format: Annotated[
        str, typer.Option("--format", "-f", help=f"How it is written: {TABLE}, {', '.join(SWEEP_FORMS)}.")
    ] = TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to FILE; not for tables.")
    ] = None,
) -> None:
    """Show which points of a sweep are worth having, and which one is recommended; also while others run.

    Points are compared by two figures: --x, what is to be gained, and --y, what it costs.
    """
    if format not in (TABLE, *SWEEP_FORMS):
        raise usage(f"--format {format}: choose {TABLE}, {', '.join(SWEEP_FORMS)}")
    if format == TABLE and output is not None:
        raise usage(f"a table goes to the terminal; choose --format {', '.join(SWEEP_FORMS)} for a file")
    with connect() as client:
        found = find(client, sweep_id)
        if format == TABLE:
            from secateur.cli.render_sweep import sweep_lines  # the whole contract, which takes long to load

            for part in sweep_lines(client.sweep_report(found, x=x, y=y)):
                out.print(part)
            return
        text = client.sweep_report_text(found, format, x=x, y=y)
    if output is None:
        print(text)
        return
    write_whole(output, text)
    err.print(f"[dim]written to[/] {output}")


@commands.command()
@asks_service
def cancel(sweep_id: SweepId, as_json: AsJson = False) -> None:
    """Cancel the jobs of a sweep that are not over; what has succeeded stays."""
    with connect() as client:
        _tell(client.cancel_sweep(find(client, sweep_id)), as_json=as_json)


@commands.command()
@asks_service
def retry(sweep_id: SweepId, as_json: AsJson = False) -> None:
    """Try the failed and cancelled points of a sweep again."""
    with connect() as client:
        _tell(client.retry_sweep(find(client, sweep_id)), as_json=as_json)


@commands.command()
@asks_service
def delete(sweep_id: SweepId) -> None:
    """Delete a sweep that is over, with its jobs and their files."""
    with connect() as client:
        found = find(client, sweep_id)
        client.delete_sweep(found)
    err.print(f"sweep {found} is deleted")


def _tell(sweep: Sweep, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(sweep.model_dump(mode="json")))
        return
    verdict = f", gates {styled(sweep.verdict.value)}" if sweep.verdict != "none" else ""
    err.print(f"sweep {sweep.id} is {styled(sweep.state.value)}{verdict}: {_counted(sweep.counts)}")
    out.print(_points(sweep))


def _counted(counts: Mapping[State, int]) -> str:
    """ "4 queued, 1 running"."""
    return ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _sweeps(sweeps: Iterable[SweepSummary], *, now: datetime) -> Table:
    table = _table("Sweep", "Model", "State", "Verdict", "Age", "Points")
    for sweep in sweeps:
        verdict = styled(sweep.verdict.value) if sweep.verdict != "none" else ""
        since = age((now - sweep.created_at).total_seconds())
        counted = _counted(sweep.counts)
        table.add_row(short(sweep.id), escape(sweep.model), styled(sweep.state.value), verdict, since, counted)
    return table


def _points(sweep: Sweep) -> Table:
    from secateur.contract.sweep import in_words  # the whole contract, which takes long to load

    table = _table("", "Point", "State", "Verdict", "Job", "Stages", "")
    for point in sweep.points:
        verdict = styled(point.verdict.value) if point.verdict != "none" else ""
        what = point.problem.detail if point.problem else ", ".join(point.running)
        table.add_row(
            str(point.place),
            escape(in_words(point.changes)),
            styled(point.state.value),
            verdict,
            short(point.job_id),
            f"{point.stages_done}/{point.stages}",
            escape(what),
        )
    return table
