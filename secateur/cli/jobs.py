"""`secateur status`, `jobs`, `cancel`, `retry` and `catalog`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from secateur.cli.job_ids import JobId, find
from secateur.cli.render import catalog_tables, jobs_table, stages_table, stands_in_words, styled
from secateur.cli.session import connect, err, out, show_problem, usage

if TYPE_CHECKING:
    from secateur.schemas.jobs import Job

AsJson = Annotated[bool, typer.Option("--json", help="Print the job as JSON.")]


def jobs(
    state: Annotated[
        str | None, typer.Option(help="Only queued, running, cancelling, succeeded, failed or cancelled.")
    ] = None,
    verdict: Annotated[str | None, typer.Option(help="Only passed, failed or none.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs on exactly this hub id or path.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only with this label.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List jobs, the newest first, each with the end of its id, which other commands take.

    `--json` has the whole ids.
    """
    labels = dict(pair.partition("=")[::2] for pair in label or [])
    if "" in labels or any("=" not in pair for pair in label or []):
        raise usage("a label is written NAME=VALUE")
    with connect() as client:
        pages = client.jobs.list(state=state, verdict=verdict, model=model, labels=labels, page_size=min(limit, 100))
        found = list(islice(pages, limit))
    if as_json:
        for job in found:
            print(json.dumps(job.model_dump(mode="json")))
        return
    out.print(jobs_table(found, now=datetime.now(UTC), width=out.width) if found else "no jobs")


def status(job_id: JobId, as_json: AsJson = False) -> None:
    """Show how a job stands: its stages, what they use, and while it waits, where in the queue and until when.

    What a stage uses is memory, processor cores and, where it has one, the GPU; of one that is over, the most.
    """
    with connect() as client:
        job = client.jobs.retrieve(find(client, job_id))
    if as_json:
        print(json.dumps(job.model_dump(mode="json")))
        return
    verdict = f", gates {styled(job.verdict.value)}" if job.verdict != "none" else ""
    err.print(f"job {job.id} is {styled(job.state.value)}{verdict}")
    if job.queue is not None:
        err.print(stands_in_words(job.queue), highlight=False)
    if job.problem is not None:
        show_problem(job.problem)
    out.print(stages_table(job))


def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a job; a stage that runs is stopped within seconds."""
    with connect() as client:
        _tell(client.jobs.cancel(find(client, job_id)), as_json=as_json)


def retry(job_id: JobId, as_json: AsJson = False) -> None:
    """Try a failed or cancelled job again, from its last checkpoint."""
    with connect() as client:
        _tell(client.jobs.retry(find(client, job_id)), as_json=as_json)


def _tell(job: Job, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(job.model_dump(mode="json")))
        return
    err.print(f"job {job.id} is {styled(job.state.value)}")


def catalog(
    as_json: Annotated[bool, typer.Option("--json", help="With every option, as JSON schema.")] = False,
) -> None:
    """Show what the service offers: criteria, pruners, recoveries, quantisations, benchmarks."""
    with connect() as client:
        found = client.catalog()
    if as_json:
        out.print_json(data=found.model_dump(mode="json"))
        return
    for table in catalog_tables(found):
        out.print(table)
