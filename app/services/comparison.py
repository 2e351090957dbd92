"""Two jobs held against each other."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Session

from app.db import jobs
from app.services import results
from secateur.contract.comparison import JobComparison, compare_reports
from secateur.contract.errors import Conflict, FieldError, InvalidInput
from secateur.contract.jobs import State
from secateur.contract.report import Report


def compare(session: Session, job_id: UUID, other_id: UUID) -> JobComparison:
    """What differs between two jobs that have succeeded.

    Raises:
        InvalidInput: both are the same job.
        NotFound: one of them does not exist.
        Conflict: one of them has not succeeded.
    """
    if job_id == other_id:
        detail = f"job {job_id} is the same as itself"
        field = FieldError("", detail, str(other_id), "the id of another job", "path other_id")
        raise InvalidInput(detail, errors=[field])
    return compare_reports(comparable(session, job_id), comparable(session, other_id))


def comparable(session: Session, job_id: UUID) -> Report:
    """The report of a job that has succeeded. Raises NotFound, Conflict."""
    state = jobs.get(session, job_id).state
    if state is not State.SUCCEEDED:
        raise Conflict(f"job {job_id} is {state.value}; only jobs that have succeeded can be compared")
    return results.report(session, job_id)
