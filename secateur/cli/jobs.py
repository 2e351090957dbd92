"""`secateur jobs`, `cancel`, `retry` and `catalog`."""

from __future__ import annotations

import json
from itertools import islice
from typing import Annotated
from uuid import UUID

import typer

from secateur.cli.render import catalog_tables, jobs_table, styled
from secateur.cli.session import connect, err, out, usage

JobId = Annotated[UUID, typer.Argument(help="The job's id.")]


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
    """List jobs, the newest first."""
    labels = dict(pair.partition("=")[::2] for pair in label or [])
    if "" in labels or any("=" not in pair for pair in label or []):
        raise usage("a label is written NAME=VALUE")
    with connect() as client:
        pages = client.jobs(state=state, verdict=verdict, model=model, labels=labels, page_size=min(limit, 100))
        found = list(islice(pages, limit))
    if as_json:
        for job in found:
            print(json.dumps(job.model_dump(mode="json")))
        return
    out.print(jobs_table(found) if found else "no jobs")


def cancel(job_id: JobId) -> None:
    """Cancel a job; a stage that runs is stopped within seconds."""
    with connect() as client:
        job = client.cancel(job_id)
    err.print(f"job {job.id} is {styled(job.state.value)}")


def retry(job_id: JobId) -> None:
    """Try a failed or cancelled job again, from its last checkpoint."""
    with connect() as client:
        job = client.retry(job_id)
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
