"""`secateur logs`: what a job's stages have logged, and with --follow what they log until the job is over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from secateur.cli.job_ids import JobId, find
from secateur.cli.session import connect
from secateur.contract.numbers import clock

if TYPE_CHECKING:
    from secateur.client.http_client import Client
    from secateur.schemas.events import LogLine


def logs(
    job_id: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with each line as it comes, until the job is over.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print the lines that a job's stages have logged; times are in UTC.

    Ctrl-C stops following, not the job.
    """
    with connect() as client:
        job = find(client, job_id)
        for line in _as_they_come(client, job) if follow else client.jobs.logs(job):
            print(json.dumps(line.model_dump(mode="json")) if as_json else _text(line), flush=True)


def _as_they_come(client: Client, job_id: UUID) -> Iterator[LogLine]:
    from secateur.schemas.events import LogLine

    for event in client.jobs.events(job_id):
        if event.type == "log":
            known = event.model_dump(include=LogLine.model_fields.keys() - {"message"})
            yield LogLine(message=str(event.data.get("message", "")), **known)


def _text(line: LogLine) -> str:
    where = line.stage or "job"
    level = "" if line.level == "info" else f"{line.level}: "
    return f"{clock(line.created_at)} {where}: {level}{line.message}"
