"""Reading, cancelling, retrying and deleting jobs: what a request asks for, on one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from app.db import jobs
from app.db.tables import Job
from app.domain.jobs import State, Verdict
from app.services.cursor import decode
from app.services.submit import send_waiting
from app.services.work import Work


def list_jobs(
    work: Work,
    *,
    cursor: str | None,
    limit: int,
    state: State | None,
    verdict: Verdict | None,
    model: str | None,
    labels: Mapping[str, str],
) -> jobs.JobPage:
    """A page of jobs, newest first. Raises InvalidInput for a cursor of somebody else's."""
    filters = jobs.JobFilters(state=state, verdict=verdict, model=model, labels=labels)
    after = decode(cursor) if cursor is not None else None
    return jobs.list_page(work.session, after=after, limit=limit, filters=filters)


def cancel(work: Work, job_id: UUID) -> Job:
    """Ask for the job to end; asking again, or for a job that is over, changes nothing. Raises NotFound."""
    jobs.request_cancel(work.session, job_id)
    return jobs.get(work.session, job_id)


def retry(work: Work, job_id: UUID) -> Job:
    """Queue a failed or cancelled job again from where it stopped. Raises NotFound, Conflict."""
    jobs.retry(work.session, job_id)
    job = jobs.get(work.session, job_id)
    send_waiting(work, job)
    return job


def delete(work: Work, job_id: UUID) -> None:
    """Delete a job that is over. Its files go with the next sweep of what no job names. Raises NotFound, Conflict."""
    jobs.delete(work.session, job_id)
