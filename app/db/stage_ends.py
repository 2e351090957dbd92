"""How a stage ends, and what follows for its job: on rows, with the job's row locked by the caller.

Who may end a stage is a matter of claims (`claims.py`). Here its state changes, the stages that it made ready get
their turn, those that needed it in vain are cancelled, and the job is over when all of them are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import artifacts, events, reports
from app.db.tables.jobs import Job, Stage
from app.db.transitions import give_turns, move_job, move_stage
from app.stored_file import StoredFile
from secateur.contract.jobs import State, Verdict
from secateur.contract.protocol import NewStage
from secateur.contract.stage_graph import PlannedStage, extended, outcome, stopped
from secateur.contract.stage_kinds import STAGE_KINDS

HELD = (State.RUNNING, State.CANCELLING)


@dataclass(frozen=True)
class Ended:
    """How a stage was left."""

    state: State | None  # None: refused, the claim was lost
    send: tuple[UUID, ...] = ()  # the stages whose messages are to be sent after commit


LOST = Ended(None)


def cancel(session: Session, job: Job, stage: Stage) -> Ended:
    """Its process is gone, as a cancel asked."""
    return _go_on(session, job, State.CANCELLED, [move_stage(stage, State.CANCELLED)])


def succeed(
    session: Session,
    job: Job,
    stage: Stage,
    result: dict[str, Any],
    output: str,
    files: Sequence[StoredFile],
    adds: Sequence[NewStage],
    dedupe_key: str | None,
    note: str | None,
    memory: int | None = None,
) -> Ended:
    planned = extended(job.stages, adds, by=stage.key)  # raises before anything is changed
    stage.result, stage.output, stage.dedupe_key, stage.memory = result, output, dedupe_key, memory
    artifacts.replace(session, job.id, stage.key, files)
    told = [events.log(note, stage=stage.key, attempt=stage.attempt)] if note else []
    told.append(move_stage(stage, State.SUCCEEDED))
    if STAGE_KINDS[stage.kind].concludes:
        job.verdict = Verdict(result["verdict"])
        reports.put(session, job.id, result, job.verdict)
        told.append(events.NewEvent("verdict", {"verdict": job.verdict.value, "gates": result.get("gates", [])}))
    if adds:
        told += _add(session, job, stage, planned)
    return _go_on(session, job, State.SUCCEEDED, told)


def _add(session: Session, job: Job, by: Stage, planned: Sequence[PlannedStage]) -> list[events.NewEvent]:
    """Give the job the stages that it has not, and all of them the needs and places that they have now."""
    rows, told = {stage.key: stage for stage in job.stages}, []
    for place, plan in enumerate(planned):
        if plan.key not in rows:
            rows[plan.key] = Stage(key=plan.key, kind=plan.kind, state=State.QUEUED, attempt=0, added_by=by.key)
            job.stages.append(rows[plan.key])
            told.append(events.stage_state(plan.key, 0, State.QUEUED, added_by=by.key))
        rows[plan.key].needs, rows[plan.key].place = list(plan.needs), place
    return told


def _go_on(session: Session, job: Job, ended: State, told: list[events.NewEvent]) -> Ended:
    """After a stage has ended: what needed it in vain is cancelled, what is ready has its turn, or the job is over."""
    told += [move_stage(stage, State.CANCELLED) for stage in stopped(job.stages)]
    fresh = give_turns(job)
    state = outcome(job.stages)
    if state is not None:
        if job.state is State.CANCELLING:  # as was asked for, whatever else has failed
            state = State.CANCELLED
        failed = next((stage for stage in job.stages if stage.state is State.FAILED), None)
        told.append(move_job(job, state, problem=failed.problem if failed and state is State.FAILED else None))
    session.flush()
    events.append(session, job.id, told)
    return Ended(ended, tuple(stage.id for stage in fresh))


def fail(session: Session, job: Job, stage: Stage, problem: dict[str, Any]) -> Ended:
    """It has failed for good."""
    problem = {**problem, "stage": stage.key}
    return _go_on(session, job, State.FAILED, [move_stage(stage, State.FAILED, problem=problem)])


def crash(session: Session, job: Job, stage: Stage, problem: dict[str, Any], max_attempts: int) -> Ended:
    """It broke without saying why: tried again, unless this was the last attempt allowed."""
    stage.crashes += 1
    detail = problem["detail"]
    if stage.crashes >= max_attempts:
        if stage.crashes > 1:
            problem = {**problem, "detail": f"{detail} It was tried {stage.crashes} times."}
        return fail(session, job, stage, problem)
    return requeue(session, job, stage, f"{detail} Trying again ({stage.crashes + 1} of {max_attempts}).")


def requeue(session: Session, job: Job, stage: Stage, reason: str) -> Ended:
    """Nobody works on it any more; it waits for a worker again."""
    told = [events.log(reason, level="warning", stage=stage.key, attempt=stage.attempt)]
    told.append(move_stage(stage, State.QUEUED, turn=True))
    return _put_back(session, job, told, (stage.id,))


def wait_for(session: Session, job: Job, stage: Stage, twin: Stage) -> Ended:
    """It waits, in no worker's hands, until its twin has ended. It was not tried: the attempt does not count."""
    told = [
        events.log(
            f"The {twin.key} stage of job {twin.job_id} computes the same just now; its result is waited for.",
            stage=stage.key,
            attempt=stage.attempt,
        )
    ]
    stage.attempt -= 1
    told.append(move_stage(stage, State.QUEUED, waits_for=twin.job_id))
    stage.dedupe_key = twin.dedupe_key
    return _put_back(session, job, told, ())


def _put_back(session: Session, job: Job, told: list[events.NewEvent], send: tuple[UUID, ...]) -> Ended:
    if not any(other.state in HELD for other in job.stages):
        told.append(move_job(job, State.QUEUED))
    session.flush()
    events.append(session, job.id, told)
    return Ended(State.QUEUED, send)
