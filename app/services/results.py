"""What a job has found: its scores and its report. A 404 says why there is none, and whether to wait for it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Session

from app.db import jobs, reports
from app.db.rounds import of_what_is_handed_out
from app.db.tables.jobs import Job
from secateur.contract.errors import NotFound
from secateur.contract.jobs import State
from secateur.contract.report import Report
from secateur.contract.results import Pruned, Scored, Scores, with_choice
from secateur.contract.stage_kinds import PRUNE, SCORE


def scores(session: Session, job_id: UUID) -> Scores:
    """The scores of a job whose score stage has succeeded. Raises NotFound."""
    job = jobs.get(session, job_id)
    if not any(stage.kind == SCORE.name for stage in job.stages):
        raise NotFound(f"job {job_id} names its blocks itself, so nothing was scored")
    found = scores_of(job)
    if found is None:
        raise NotFound(_not_yet(job, "scores"))
    return found


def scores_of(job: Job) -> Scores | None:
    """The scores of this job with what pruning chose by them; None before there are any."""
    done = [stage for stage in of_what_is_handed_out(job)[1] if stage.state is State.SUCCEEDED]
    scored = next((stage for stage in done if stage.kind == SCORE.name), None)
    if scored is None:
        return None
    pruned = next((stage for stage in done if stage.kind == PRUNE.name and scored.key in stage.needs), None)
    return with_choice(
        Scored.model_validate(scored.result),
        Pruned.model_validate(pruned.result) if pruned else None,
        scoring=job.spec["scoring"],
    )


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
