"""Reading, cancelling, retrying and deleting jobs: what a request asks for, on one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from app.db import job_pages, jobs, stages
from app.db.session import Database
from app.http.cursor import decode
from app.services.submit import send
from app.services.work import Work
from secateur.contract.jobs import State, Verdict


def list_jobs(
    database: Database,
    *,
    cursor: str | None,
    limit: int,
    state: State | None,
    verdict: Verdict | None,
    model: str | None,
    labels: Mapping[str, str],
    part: str | None = None,
    words: str | None = None,
    specs: bool = False,
) -> job_pages.JobPage:
    """A page of jobs, newest first. Raises InvalidInput for a cursor of somebody else's."""
    filters = job_pages.JobFilters(state=state, verdict=verdict, model=model, labels=labels, part=part, words=words)
    after = decode(cursor) if cursor is not None else None
    return job_pages.list_page(database, after=after, limit=limit, filters=filters, specs=specs)


def cancel(work: Work, job_id: UUID) -> None:
    """Ask for the job to end; asking again, or for a job that is over, changes nothing. Raises NotFound."""
    jobs.request_cancel(work.session, job_id, origin=work.origin)


def retry(work: Work, job_id: UUID) -> None:
    """Queue a failed or cancelled job again from where it stopped. Raises NotFound, Conflict."""
    job = jobs.retry(work.session, job_id, origin=work.origin)
    for waiting in stages.waiting_ids(job):
        send(work, waiting)


def delete(work: Work, job_id: UUID) -> None:
    """Delete a job that is over. Its files go with the next sweep of what no job names. Raises NotFound, Conflict."""
    jobs.delete(work.session, job_id)
