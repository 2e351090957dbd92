"""`secateur sweeps`: list, show, watch, gate, report on, cancel, retry and delete sweeps."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from secateur.cli.forges import annotate
from secateur.cli.overview import PlainGroup
from secateur.cli.pipeline import Comment, Pipeline, Summary
from secateur.cli.results import TABLE
from secateur.cli.service_option import asks_service
from secateur.cli.session import Exit, connect, err, out, plain, timeout_seconds, usage, write_file
from secateur.cli.sweep_ids import SweepId, find
from secateur.cli.sweep_view import end_unless_succeeded, points_table, standing, sweeps_table, watch_sweep
from secateur.report.sweep_forms import SWEEP_FORMS

if TYPE_CHECKING:
    from secateur.schemas.sweeps import Sweep, SweepVerdict

AsJson = Annotated[bool, typer.Option("--json", help="Print the sweep as JSON.")]

commands = typer.Typer(
    help="List, show, watch, gate, report on, cancel, retry and delete sweeps: many jobs of one spec.",
    no_args_is_help=True,
    cls=PlainGroup,
    rich_markup_mode=None,
)


@commands.command("list")
@asks_service
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List sweeps, the newest first, each with the end of its id, which other commands take."""
    with connect() as client:
        found = list(islice(client.sweeps.list(page_size=min(limit, 100)), limit))
    if as_json:
        for sweep in found:
            print(json.dumps(sweep.model_dump(mode="json")))
        return
    out.print(sweeps_table(found, now=datetime.now(UTC)) if found else "no sweeps")


@commands.command()
@asks_service
def show(sweep_id: SweepId, as_json: AsJson = False) -> None:
    """Show a sweep with its points and how their jobs stand."""
    with connect() as client:
        _tell(client.sweeps.retrieve(find(client, sweep_id)), as_json=as_json)


@commands.command()
@asks_service
def watch(
    sweep_id: SweepId,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Stop watching after 90s, 15m or 2h; the sweep goes on.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the finished sweep as JSON.")] = False,
) -> None:
    """Follow a sweep until all of its points are over: a live table, or a line for each change.

    Ends with 0 where every point succeeded, 20 where one failed, 21 where one was cancelled, 30 at the time-out.
    """
    seconds = timeout_seconds(timeout)
    with connect() as client:
        sweep = watch_sweep(client, find(client, sweep_id), timeout=seconds)
        if as_json:
            print(sweep.model_dump_json())
        end_unless_succeeded(sweep)
    err.print("[green]succeeded[/]; the report: secateur sweeps report")


@commands.command()
@asks_service
def gate(
    sweep_id: SweepId,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Wait no longer than 90s, 15m or 2h; the sweep goes on.")
    ] = None,
    summary: Summary = False,
    comment: Comment = False,
    junit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a JUnit test case for the sweep, which may fail, and one per point."),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the verdict and the recommended point as JSON, in place of its job's id."),
    ] = False,
) -> None:
    """Wait for a sweep and judge it, for a pipeline: it passes where a point passes all gates. Prints that point's job.

    Exit codes: 0 a point passed, 2 usage, 10 none did, 11 there are no gates, 20 no point was judged and one failed, 21
    all were cancelled, 30 the wait timed out and the sweep goes on, 40 no answer or no key. A point that failed fails
    no other.
    """
    seconds = timeout_seconds(timeout)
    pipeline = Pipeline.of(summary=summary, comment=comment, junit=junit)
    with connect() as client:
        found = watch_sweep(client, find(client, sweep_id), timeout=seconds)
        judged = any(point.state == "succeeded" for point in found.points)
        if not judged:
            pipeline.ended(f"sweep {found.state.value}", f"{found.id}: no point has a report", about=found.model)
            end_unless_succeeded(found)
        verdict = client.sweeps.verdict(found.id)
        pipeline.take(partial(client.sweeps.report_text, found.id), about=found.model)
    raise typer.Exit(_judge(verdict, as_json=as_json))


def _judge(verdict: SweepVerdict, *, as_json: bool) -> Exit:
    err.print(escape(verdict.why), highlight=False)
    if as_json:
        print(json.dumps(verdict.model_dump(mode="json")))
    if verdict.verdict == "passed":
        if verdict.recommended is not None and not as_json:
            print(verdict.recommended.job_id)
        return Exit.OK
    annotate("error", "no gates" if verdict.verdict == "none" else "no point passes", verdict.why)
    return Exit.NO_GATES if verdict.verdict == "none" else Exit.GATE_FAILED


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

            for part in sweep_lines(client.sweeps.report(found, x=x, y=y)):
                out.print(part)
            return
        text = client.sweeps.report_text(found, format, x=x, y=y)
    if output is None:
        print(text)
        return
    write_file(output, text)
    err.print(f"[dim]written to[/] {plain(str(output))}")


@commands.command()
@asks_service
def cancel(sweep_id: SweepId, as_json: AsJson = False) -> None:
    """Cancel the jobs of a sweep that are not over; what has succeeded stays."""
    with connect() as client:
        _tell(client.sweeps.cancel(find(client, sweep_id)), as_json=as_json)


@commands.command()
@asks_service
def retry(sweep_id: SweepId, as_json: AsJson = False) -> None:
    """Try the failed and cancelled points of a sweep again."""
    with connect() as client:
        _tell(client.sweeps.retry(find(client, sweep_id)), as_json=as_json)


@commands.command()
@asks_service
def delete(sweep_id: SweepId, as_json: AsJson = False) -> None:
    """Delete a sweep that is over, with its jobs and their files."""
    with connect() as client:
        found = find(client, sweep_id)
        client.sweeps.delete(found)
    if as_json:
        print(json.dumps({"id": str(found), "deleted": True}))
        return
    err.print(f"sweep {found} is deleted")


def _tell(sweep: Sweep, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(sweep.model_dump(mode="json")))
        return
    err.print(standing(sweep), soft_wrap=True)
    out.print(points_table(sweep))
