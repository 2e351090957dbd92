"""The earlier job that a result is held against: found by its labels, or by its id."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import jobs
from app.db.tables.jobs import Job
from secateur.contract.errors import InvalidInput, NotFound
from secateur.contract.jobs import State, Verdict
from secateur.contract.options.baseline import Baseline

_PLACE = "/baseline"


def baseline_of(session: Session, baseline: Baseline, *, before: UUID | None = None) -> Job | None:
    """The job that `baseline` names, with a report; None where no job with its labels has passed.

    Args:
        before: the job that is held against it. Later ones do not count, so that asking again gives the same.

    Raises:
        InvalidInput: the job that is named is not there, or has not succeeded.
    """
    if baseline.job is not None:
        try:
            job = jobs.get(session, baseline.job)
        except NotFound as error:
            raise _misfit("job", str(error), str(baseline.job), "the id of one of GET /jobs") from error
        if job.state is not State.SUCCEEDED:
            detail = f"job {job.id} is {job.state.value}, and has no report to be held against"
            raise _misfit("job", detail, str(job.id), "a job that has succeeded")
        return job
    passed = select(Job).where(
        Job.labels.contains(baseline.label), Job.state == State.SUCCEEDED, Job.verdict == Verdict.PASSED
    )
    if before is not None:
        passed = passed.where(Job.id < before)
    return session.scalars(passed.order_by(Job.id.desc()).limit(1)).first()


def required_baseline_of(session: Session, baseline: Baseline) -> Job | None:
    """The same, when a job is submitted. Raises InvalidInput where there is none, and there has to be one."""
    job = baseline_of(session, baseline)
    if job is None and baseline.required:
        raise _misfit(
            "label",
            f"no job with {baseline.in_words} has passed its gates",
            baseline.label,
            'labels of a job that has, or `"required": false` until there is one',
        )
    return job


def _misfit(field: str, detail: str, value: object, expected: str) -> InvalidInput:
    return InvalidInput.field(f"{_PLACE}/{field}", detail, value=value, expected=expected)
