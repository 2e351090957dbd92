"""Stages as the queue sees them: which wait for a worker, whose lease has run out, whose output is still needed.

What a worker does with the stage that it holds is in `app/db/claims.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select, text, update
from sqlalchemy.orm import Session

from app.db.arrays import among
from app.db.tables.jobs import Job, Stage
from secateur.contract.jobs import State


def get(session: Session, stage_id: UUID) -> Stage | None:
    """The stage, read afresh."""
    return session.get(Stage, stage_id, populate_existing=True)


def waiting_ids(job: Job) -> tuple[UUID, ...]:
    """The stages of this job that wait for a worker: whose messages are to be sent after commit."""
    return tuple(s.id for s in job.stages if s.state is State.QUEUED and s.enqueued_at is not None)


def next_waiting(session: Session) -> UUID | None:
    """The stage that a free worker should take now, with its job's row locked; None if none waits.

    In this order: the higher priority; jobs that have begun before those that have not, so that jobs end one after the
    other, and not all of them last; of those that have not, the caller of whose stages the fewest run now, or whose
    last job began the longest ago, so that nobody's hundred jobs keep another one's waiting; the older job.

    A job that somebody else holds locked is passed over, since another worker is just claiming its stage; only where
    nothing else waits is it waited for, since it may only be looked at or cancelled.
    """
    tops = {begun: session.scalar(_waiting(Job.priority, begun).limit(1)) for begun in (True, False)}
    for wait in (False, True):
        for begun in sorted(tops, key=lambda begun: (-(tops[begun] or 0), not begun)):
            if tops[begun] is None:
                continue
            found = None if begun or wait else _in_fair_turn(session, tops[False])
            found = found or session.scalar(_locked(_waiting(Stage.id, begun), wait=wait))
            if found is not None:
                return found
    return None


def _waiting(what: Any, begun: bool) -> Select[Any]:
    """Of the stages that a worker may take, those of jobs that have begun or of those that have not, in their turn."""
    place = text("NOT (cardinality(stages.needs) = 0)" if begun else "(cardinality(stages.needs) = 0)")
    query = select(what).select_from(Stage).join(Job, Job.id == Stage.job_id).where(*_claimable(), place)
    return query.order_by(Job.priority.desc(), Stage.job_id, Stage.place)


def _in_fair_turn(session: Session, priority: int | None) -> UUID | None:
    """The first stage of a job of this priority whose caller's turn it is."""
    for caller in session.scalars(_CALLERS, {"priority": priority}).all():
        of_caller = _waiting(Stage.id, begun=False).where(
            Job.state == State.QUEUED, Job.priority == priority, Job.caller == caller
        )
        found: UUID | None = session.scalar(_locked(of_caller, wait=False))
        if found is not None:
            return found
    return None


def _locked(query: Select[Any], *, wait: bool) -> Select[Any]:
    """The first row that is not locked, or, for `wait`, the first, once nobody holds it."""
    return query.limit(1).with_for_update(of=Job, skip_locked=not wait)


# The callers of jobs that wait, from one to the next by the index: those with the fewest running stages first, and of
# equals the one whose last job began the longest ago.
_CALLERS = text(
    """
    WITH RECURSIVE callers(name) AS (
        (SELECT caller FROM jobs WHERE state = 'queued' AND priority = :priority ORDER BY caller LIMIT 1)
        UNION ALL
        SELECT (SELECT caller FROM jobs WHERE state = 'queued' AND priority = :priority AND caller > callers.name
                ORDER BY caller LIMIT 1)
        FROM callers WHERE callers.name IS NOT NULL
    ), busy AS (
        SELECT jobs.caller, count(*) AS running FROM stages JOIN jobs ON jobs.id = stages.job_id
        WHERE stages.lease_expires_at IS NOT NULL GROUP BY jobs.caller
    )
    SELECT name FROM callers LEFT JOIN busy ON busy.caller = callers.name
    WHERE name IS NOT NULL
    ORDER BY coalesce(running, 0),
             (SELECT max(started_at) FROM jobs WHERE jobs.caller = callers.name) NULLS FIRST,
             (SELECT id FROM jobs WHERE state = 'queued' AND priority = :priority AND jobs.caller = callers.name
              ORDER BY id LIMIT 1)
    """
)


def _claimable() -> tuple[Any, ...]:
    """What `claims.claim` asks of a stage and its job."""
    return (
        Stage.state == State.QUEUED,
        Stage.enqueued_at.is_not(None),
        Job.state.in_([State.QUEUED, State.RUNNING]),
        (Job.deadline_at.is_(None)) | (Job.deadline_at > func.now()),
    )


def count_waiting(session: Session) -> int:
    """How many stages wait for a worker."""
    waiting = select(func.count()).where(Stage.state == State.QUEUED, Stage.enqueued_at.is_not(None))
    return session.execute(waiting).scalar_one()


def take_unclaimed(session: Session, *, older_than: float, limit: int = 500) -> list[UUID]:
    """Stages that have waited for `older_than` seconds since their message, marked as sent now: send them again."""
    overdue_query = (
        select(Stage.id)
        .where(
            Stage.state == State.QUEUED,
            Stage.enqueued_at.is_not(None),
            Stage.enqueued_at <= func.now() - timedelta(seconds=older_than),
        )
        .order_by(Stage.enqueued_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    marked = update(Stage).where(Stage.id.in_(overdue_query)).values(enqueued_at=func.now()).returning(Stage.id)
    return list(session.scalars(marked.execution_options(synchronize_session=False)))


def expired(session: Session, *, limit: int = 100) -> list[UUID]:
    """Stages whose lease has run out: their worker is dead, stopped, or cut off from the database."""
    query = select(Stage.id).where(Stage.lease_expires_at <= func.now())
    return list(session.scalars(query.order_by(Stage.lease_expires_at).limit(limit)))


def outputs_in_use(session: Session, outputs: Collection[str]) -> set[str]:
    """Which of these folders of the store some stage has as its output."""
    return {
        output
        for output in session.scalars(select(Stage.output).where(among(Stage.output, outputs)).distinct())
        if output is not None
    }


def tokens_held(session: Session, stage_ids: Collection[UUID]) -> dict[UUID, int]:
    """The fencing tokens of those of these stages that a worker holds now."""
    held = select(Stage.id, Stage.token).where(among(Stage.id, stage_ids), Stage.lease_expires_at.is_not(None))
    return {stage_id: token for stage_id, token in session.execute(held)}  # noqa: C416 - mypy does not know a Row as a pair


def known(session: Session, stage_ids: Collection[UUID]) -> bool:
    """Whether one of these stages exists."""
    return session.scalar(select(Stage.id).where(among(Stage.id, stage_ids)).limit(1)) is not None


def unfinished(session: Session, stage_ids: Collection[UUID]) -> set[UUID]:
    """Which of these stages exist and have not succeeded: their scratch may be needed."""
    query = select(Stage.id).where(among(Stage.id, stage_ids), Stage.state != State.SUCCEEDED)
    return set(session.scalars(query))
