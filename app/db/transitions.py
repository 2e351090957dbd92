"""Moving a job or a stage from state to state: the columns that go with a state, and the event that tells of it.

Nothing outside `app/db` changes a state. The caller holds the job's row lock.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import func

from app.db import events
from app.db.tables.jobs import Job, Stage
from secateur.contract.errors import Conflict
from secateur.contract.jobs import State, may_follow
from secateur.contract.stage_graph import ready


def move_job(job: Job, state: State, *, problem: dict[str, Any] | None = None) -> events.NewEvent:
    """Put the job into `state`. Raises Conflict where the table of transitions does not have it."""
    if not may_follow(job.state, state):
        raise Conflict(f"job {job.id} is {job.state.value} and cannot become {state.value}")
    job.state = state
    job.problem = problem
    job.finished_at = func.now() if state.terminal else None
    if state is State.RUNNING and job.started_at is None:
        job.started_at = func.now()
    return events.job_state(state, **({"problem": problem} if problem else {}))


def give_turns(job: Job) -> list[Stage]:
    """Let those stages wait for a worker that are ready and do not yet; these."""
    fresh = [stage for stage in ready(job.stages) if stage.enqueued_at is None and stage.waits_for is None]
    for stage in fresh:
        stage.enqueued_at = func.now()
    return fresh


def move_stage(
    stage: Stage,
    state: State,
    *,
    problem: dict[str, Any] | None = None,
    turn: bool = False,
    waits_for: UUID | None = None,
) -> events.NewEvent:
    """Put the stage into `state`; into `queued` with its `turn` come or not. Raises Conflict as `move_job` does.

    Args:
        waits_for: the job whose identical stage it waits for in the queue.

    Into `running` leads only a claim (`app.db.claims.claim`), which is one conditional UPDATE.
    """
    if state is State.RUNNING or not may_follow(stage.state, state):
        raise Conflict(f"stage {stage.key} is {stage.state.value} and cannot become {state.value}")
    stage.state = state
    stage.problem = problem
    stage.finished_at = func.now() if state.terminal else None
    if state is not State.CANCELLING:
        stage.lease_expires_at = None
    if state is State.QUEUED:
        stage.enqueued_at = func.now() if turn else None
    stage.waits_for = waits_for
    if state not in {State.SUCCEEDED, State.CANCELLING}:
        stage.dedupe_key = None  # it has no result under it, and computes none
    more = {"problem": problem, "waits_for": str(waits_for) if waits_for else None}
    return events.stage_state(stage.key, stage.attempt, state, **{name: what for name, what in more.items() if what})
