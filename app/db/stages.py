"""Stages as the queue sees them: which wait for a worker, whose lease has run out, whose output is still needed.

What a worker does with the stage that it holds is in `app/db/claims.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app.db.arrays import among
from app.db.tables import Job, Stage
from secateur.contract.jobs import State


def get(session: Session, stage_id: UUID) -> Stage | None:
    """The stage, read afresh."""
    return session.get(Stage, stage_id, populate_existing=True)


def waiting_ids(job: Job) -> tuple[UUID, ...]:
    """The stages of this job that wait for a worker: whose messages are to be sent after commit."""
    return tuple(s.id for s in job.stages if s.state is State.QUEUED and s.enqueued_at is not None)


def next_waiting(session: Session) -> UUID | None:
    """The stage that a free worker should take now, with its job's row locked; None if none waits.

    Jobs that have begun go before those that have not, and then older ones before newer ones: so jobs end one after the
    other, and not all of them last. A job that somebody else holds locked is passed over, since another worker is just
    claiming its stage; only where nothing else waits is it waited for, since it may only be looked at or cancelled.
    """
    begun_first = select(Stage.id).join(Job, Job.id == Stage.job_id).where(*_claimable())
    begun_first = begun_first.order_by(text("cardinality(stages.needs) = 0"), Stage.job_id, Stage.place).limit(1)
    unlocked = session.scalar(begun_first.with_for_update(of=Job, skip_locked=True))
    return unlocked or session.scalar(begun_first.with_for_update(of=Job))


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
