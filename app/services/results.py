"""What a job has found: its scores and its report. A 404 says why there is none, and whether to wait for it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Session

from app.db import jobs, reports
from app.db.tables import Job
from secateur.contract.errors import NotFound
from secateur.contract.jobs import State
from secateur.contract.results import Report, Scores
from secateur.contract.stage_kinds import SCORE


def scores(session: Session, job_id: UUID) -> Scores:
    """The scores of a job whose score stage has succeeded. Raises NotFound."""
    job = jobs.get(session, job_id)
    stage = next((stage for stage in job.stages if stage.name == SCORE.name), None)
    if stage is None:
        raise NotFound(f"job {job_id} names its blocks itself, so nothing was scored")
    if stage.state is not State.SUCCEEDED or stage.result is None:
        raise NotFound(_not_yet(job, "scores"))
    return Scores.model_validate(stage.result)


def report(session: Session, job_id: UUID) -> Report:
    """The report of a job that has succeeded. Raises NotFound."""
    found = reports.find(session, job_id)
    if found is None:
        raise NotFound(_not_yet(jobs.get(session, job_id), "report"))
    return Report.model_validate(found.body)


def _not_yet(job: Job, what: str) -> str:
    if job.state.terminal:
        why = f": {job.problem['detail']}" if job.problem and job.problem.get("detail") else ""
        return f"job {job.id} is {job.state.value} and has no {what}{why}"
    return f"job {job.id} is {job.state.value}; it has no {what} yet"
