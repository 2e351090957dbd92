"""`secateur report`, `download`, `artifacts` and `gate`: what a job has found."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secateur.cli.forges import annotate
from secateur.cli.job_ids import JobId, find
from secateur.cli.pipeline import Comment, Pipeline, Summary
from secateur.cli.progress import downloads
from secateur.cli.render import artifact_table, gates_table
from secateur.cli.session import Exit, connect, err, fail, out, plain, timeout_seconds, usage, write_file
from secateur.cli.watch import end_unless_succeeded, show
from secateur.report.forms import FORMS

if TYPE_CHECKING:
    from secateur.contract.report import Report

ANNOTATIONS = 10  # that GitHub shows of one step

TABLE = "table"


def report(
    job_id: JobId,
    format: Annotated[
        str, typer.Option("--format", "-f", help=f"How it is written: {TABLE}, {', '.join(FORMS)}.")
    ] = TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to FILE; not for tables.")
    ] = None,
) -> None:
    """Show a job's report: as a table, or as JSON, Markdown, HTML or JUnit XML."""
    if format not in (TABLE, *FORMS):
        raise usage(f"--format {format}: choose {TABLE}, {', '.join(FORMS)}")
    if format == TABLE and output is not None:
        raise usage(f"a table goes to the terminal; choose --format {', '.join(FORMS)} for a file")
    with connect() as client:
        if format == TABLE:
            from secateur.cli.render_report import report_lines  # the whole contract, which takes long to load

            for part in report_lines(client.jobs.report(find(client, job_id)), width=out.width):
                out.print(part)
            return
        text = client.jobs.report_text(find(client, job_id), format)
    if output is None:
        print(text)
        return
    write_file(output, text)
    err.print(f"[dim]written to[/] {plain(str(output))}")


def artifacts(
    job_id: JobId,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with whole checksums.")] = False,
) -> None:
    """List the files that a job has published."""
    with connect() as client:
        found = client.jobs.artifacts(find(client, job_id))
    if as_json:
        for artifact in found:
            print(json.dumps(artifact.model_dump(mode="json")))
        return
    out.print(artifact_table(found))


def download(
    job_id: JobId,
    destination: Annotated[Path, typer.Argument(help="A folder; it is made where there is none.")] = Path(),
    prefix: Annotated[
        str, typer.Option(help="Only files whose path begins so, such as recover/checkpoint/ or report/.")
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line: where each file lies, its size and checksum.")
    ] = False,
) -> None:
    """Download what a job has published, every file checked against its checksum.

    A download that broke off goes on where it was; files that are there already are left alone.
    """
    with connect() as client, downloads() as advance:
        found = find(client, job_id)
        paths = client.jobs.download(found, destination, prefix=prefix, progress=advance)
        listed = client.jobs.artifacts(found) if as_json else []
    told = {destination / artifact.path: artifact.model_dump(mode="json") for artifact in listed}
    if not paths:
        raise usage(f"job {job_id} has published nothing under {prefix!r}" if prefix else "nothing is published yet")
    for path in paths:
        print(json.dumps({"file": str(path), **told[path]}) if as_json else path)


def gate(
    job_id: JobId,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Wait no longer than 90s, 15m or 2h; the job goes on.")
    ] = None,
    summary: Summary = False,
    comment: Comment = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one JUnit test case per gate.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the verdict and the gates as one JSON object, in place of a table.")
    ] = False,
) -> None:
    """Wait for a job and judge it by its gates, for a pipeline.

    Exit codes: 0 every gate passed, 2 usage, 10 a gate failed, 11 the job has no gates, 20 the job failed, 21 it was
    cancelled, 30 the wait timed out and the job goes on, 40 no answer or no key. Within GitHub Actions a gate that
    failed is an annotation.
    """
    seconds = timeout_seconds(timeout)
    pipeline = Pipeline.of(summary=summary, comment=comment, junit=junit)
    with connect() as client:
        job = show(client, find(client, job_id), timeout=seconds)
        if job.state != "succeeded":
            detail = job.problem.detail if job.problem else job.state.value
            pipeline.ended(f"compression job {job.state.value}", f"{job.id}: {detail}", about=job.model)
        end_unless_succeeded(job)
        found = client.jobs.report(job.id)
        pipeline.take(partial(client.jobs.report_text, job.id), about=job.model)
    for result in [result for result in found.gates if not result.passed][:ANNOTATIONS]:
        annotate("error", f"gate {result.gate}", result.message)
    raise typer.Exit(_judge(found, as_json=as_json))


def _judge(report: Report, *, as_json: bool) -> Exit:
    """Show what the gates say; a job without gates has not passed any."""
    if as_json:
        said = report.model_dump(mode="json", include={"job_id", "verdict", "final_variant", "gates"})
        print(json.dumps(said))
    if report.verdict == "none":
        message = "The job has no gates, so there is nothing that it passes or fails: give its spec `gates`."
        annotate("error", "no gates", message)
        fail(message)
        return Exit.NO_GATES
    if not as_json:
        out.print(gates_table(report))
    return Exit.OK if report.verdict == "passed" else Exit.GATE_FAILED
