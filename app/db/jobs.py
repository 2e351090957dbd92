"""Jobs: made, found, cancelled, retried, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from app.db import events
from app.db.tables import Job, Stage, new_id
from app.db.transitions import move_job, move_stage
from app.domain.jobs import State, Verdict, stages_of
from app.domain.spec import CompressionSpec
from app.errors import Conflict, NotFound


@dataclass(frozen=True)
class JobFilters:
    """What a list of jobs is narrowed to; all given ones must hold."""

    state: State | None = None
    verdict: Verdict | None = None
    model: str | None = None  # hub id or path, exactly
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobPage:
    jobs: list[Job]  # newest first
    has_more: bool


def insert(
    session: Session,
    *,
    spec: CompressionSpec,
    caller: str,
    idempotency_key: str | None = None,
    idempotency_fingerprint: str | None = None,
    deadline_at: datetime | None = None,
) -> Job | None:
    """A new job with its stages, the first one's turn marked: send `stages.waiting_id(job)` after commit.

    None if this caller has used the idempotency key before; the job is `by_idempotency_key` then. Where another
    transaction is just using it, this one waits for the other to end.
    """
    job_id = new_id()
    row = {
        "id": job_id,
        "spec": spec.model_dump(mode="json"),
        "model_id": getattr(spec.model, "id", None) or getattr(spec.model, "path", ""),
        "state": State.QUEUED,
        "verdict": Verdict.NONE,
        "labels": dict(spec.labels),
        "caller": caller,
        "idempotency_key": idempotency_key,
        "idempotency_fingerprint": idempotency_fingerprint,
        "deadline_at": deadline_at,
    }
    unused = pg_insert(Job).values(row).on_conflict_do_nothing(index_elements=[Job.caller, Job.idempotency_key])
    if session.execute(unused.returning(Job.id)).scalar_one_or_none() is None:
        return None
    for position, name in enumerate(stages_of(spec)):
        first = position == 0
        session.add(
            Stage(id=new_id(), job_id=job_id, name=name, position=position, enqueued_at=func.now() if first else None)
        )
    session.flush()
    events.append(session, job_id, [events.job_state(State.QUEUED)])
    return get(session, job_id)


def get(session: Session, job_id: UUID) -> Job:
    """The job with its stages. Raises NotFound."""
    return _found(session.get(Job, job_id, populate_existing=True), job_id)


def lock(session: Session, job_id: UUID) -> Job:
    """As `get`, holding the row until the transaction ends: what every change of state begins with."""
    query = select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
    return _found(session.scalars(query).one_or_none(), job_id)


def _found(job: Job | None, job_id: UUID) -> Job:
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    return job


def by_idempotency_key(session: Session, *, caller: str, key: str) -> Job | None:
    """The job that this caller made with this key."""
    return session.scalars(select(Job).where(Job.caller == caller, Job.idempotency_key == key)).one_or_none()


def list_page(
    session: Session, *, after: UUID | None = None, limit: int = 20, filters: JobFilters | None = None
) -> JobPage:
    """Jobs, newest first, from behind the job `after` on: a keyset page, which stays right while jobs arrive."""
    filters = filters or JobFilters()
    query = select(Job).order_by(Job.id.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(Job.id < after)
    if filters.state is not None:
        query = query.where(Job.state == filters.state)
    if filters.verdict is not None:
        query = query.where(Job.verdict == filters.verdict)
    if filters.model is not None:
        query = query.where(Job.model_id == filters.model)
    if filters.labels:
        query = query.where(Job.labels.contains(dict(filters.labels)))
    found = list(session.scalars(query))
    return JobPage(found[:limit], len(found) > limit)


def count_by_state(session: Session) -> dict[State, int]:
    """How many jobs stand in each state, those of none included."""
    counted = session.execute(select(Job.state, func.count()).group_by(Job.state))
    return dict.fromkeys(State, 0) | {state: count for state, count in counted}  # noqa: C416 - see `stages.tokens_held`


def request_cancel(session: Session, job_id: UUID, *, reason: str | None = None) -> Job:
    """Ask for the job to end. What no worker holds is cancelled at once; a running stage, when its process is gone.

    Asking again changes nothing, nor does asking for a job that is over. Raises NotFound.
    """
    job = lock(session, job_id)
    if job.state.terminal or job.state is State.CANCELLING:
        return job
    told = [events.log(reason, level="warning")] if reason else []
    job.cancel_requested_at = func.now()
    held = False
    for stage in job.stages:
        if stage.state is State.RUNNING:
            told.append(move_stage(stage, State.CANCELLING))
            held = True
        elif stage.state is State.QUEUED:
            told.append(move_stage(stage, State.CANCELLED))
    if job.state is State.RUNNING:
        told.append(move_job(job, State.CANCELLING))
    if not held:
        told.append(move_job(job, State.CANCELLED))
    session.flush()
    events.append(session, job_id, told)
    return get(session, job_id)


def cancel_if_overdue(session: Session, job_id: UUID) -> None:
    """Cancel the job if its deadline has passed; nothing happens if the job is gone, over, or has no deadline now."""
    try:
        job = lock(session, job_id)
    except NotFound:
        return
    now = session.execute(select(func.now())).scalar_one()
    if job.deadline_at is not None and job.deadline_at <= now:
        request_cancel(session, job_id, reason="The job's deadline has passed.")


def retry(session: Session, job_id: UUID) -> Job:
    """Queue a failed or cancelled job again, from its first stage that has not succeeded.

    What succeeded is kept, and the stage goes on from its last checkpoint where its scratch is still there. A
    deadline does not carry over. Send `stages.waiting_id(job)` after commit. Raises NotFound; Conflict for a job in
    any other state.
    """
    job = lock(session, job_id)
    if job.state not in {State.FAILED, State.CANCELLED}:
        raise Conflict(f"job {job_id} is {job.state.value}; only a failed or cancelled job can be retried")
    job.cancel_requested_at = job.deadline_at = None
    told = [move_job(job, State.QUEUED)]
    turn = True
    for stage in job.stages:
        if stage.state is not State.SUCCEEDED:
            stage.crashes = 0
            told.append(move_stage(stage, State.QUEUED, turn=turn))
            turn = False
    session.flush()
    events.append(session, job_id, told)
    return get(session, job_id)


def delete(session: Session, job_id: UUID) -> None:
    """Delete a job that is over, with its history; the janitor sweeps its files unless another job shares them.

    Raises NotFound; Conflict while the job is not over.
    """
    job = lock(session, job_id)
    if not job.state.terminal:
        raise Conflict(f"job {job_id} is {job.state.value}; cancel it, and delete it when it is over")
    session.execute(sql_delete(Job).where(Job.id == job_id))
    session.expunge(job)


def overdue(session: Session, *, limit: int = 100) -> list[UUID]:
    """Jobs that their deadline has passed and that nobody has cancelled yet."""
    query = select(Job.id).where(Job.deadline_at <= func.now(), Job.state.in_([State.QUEUED, State.RUNNING]))
    return list(session.scalars(query.order_by(Job.deadline_at).limit(limit)))
