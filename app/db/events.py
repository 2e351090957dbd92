"""The history of a job: events numbered 1, 2, 3 … without gaps, in the order in which they were committed.

Appending takes the job's row lock (by the UPDATE of its counter), so two writers of one job queue up, and a reader
that has seen number n will never see a smaller number appear afterwards: a stream that resumes after n misses nothing.
Who follows the job is told after the commit (`news.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.orm import Session

from app.db import news
from app.db.arrays import among
from app.db.tables.job_records import Event
from app.db.tables.jobs import Job
from secateur.contract.errors import NotFound
from secateur.contract.jobs import State

EventType = Literal["state", "progress", "log", "metrics", "text", "verdict"]
Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True)
class NewEvent:
    """An event that has no number yet."""

    type: EventType
    data: dict[str, Any] = field(default_factory=dict)
    level: Level = "info"
    stage: str | None = None  # None: of the job as a whole
    attempt: int | None = None
    created_at: datetime | None = None  # None: the time of the transaction


def job_state(state: State, **more: Any) -> NewEvent:
    """The job has come into this state."""
    return NewEvent("state", {"state": state.value, **more}, level="error" if state is State.FAILED else "info")


def stage_state(stage: str, attempt: int, state: State, **more: Any) -> NewEvent:
    """The stage has come into this state."""
    data = {"state": state.value, "stage": stage, **more}
    return NewEvent("state", data, level="error" if state is State.FAILED else "info", stage=stage, attempt=attempt)


def log(message: str, *, level: Level = "info", stage: str | None = None, attempt: int | None = None) -> NewEvent:
    """A line for people."""
    return NewEvent("log", {"message": message}, level=level, stage=stage, attempt=attempt)


def append(session: Session, job_id: UUID, events: Sequence[NewEvent], *, request_id: str | None = None) -> int:
    """Number and write `events`; the last number of the job. Takes the job's row lock. Raises NotFound.

    They belong to the request `request_id`, or to the one that made the job.
    """
    counted = (
        update(Job)
        .where(Job.id == job_id)
        .values(last_event_seq=Job.last_event_seq + len(events), updated_at=func.now())
        .returning(Job.last_event_seq, func.now(), func.coalesce(request_id, Job.request_id))
        .execution_options(synchronize_session=False)
    )
    row = session.execute(counted).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    last, now, request = row
    if events:
        first = last - len(events) + 1
        session.execute(insert(Event), [_row(job_id, first + i, event, now, request) for i, event in enumerate(events)])
        news.note(session, job_id)
    return last


def _row(job_id: UUID, seq: int, event: NewEvent, now: datetime, request_id: str | None) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "seq": seq,
        "created_at": event.created_at or now,
        "stage": event.stage,
        "attempt": event.attempt,
        "type": event.type,
        "level": event.level,
        "request_id": request_id,
        "data": event.data,
    }


def metrics_of(session: Session, job_id: UUID, stage: str, *, about: int) -> list[dict[str, Any]]:
    """What a stage has told of its figures, evenly thinned to `about` as many, the newest and all validations kept."""
    place = func.row_number().over(order_by=Event.seq)
    total = func.count().over()
    told = (
        select(Event.data, place.label("place"), total.label("total"))
        .where(Event.job_id == job_id, Event.type == "metrics", Event.stage == stage)
        .subquery()
    )
    every = func.greatest(1, told.c.total // about)
    kept = or_((told.c.total - told.c.place) % every == 0, told.c.data.has_key("validation_loss"))
    return list(session.scalars(select(told.c.data).where(kept).order_by(told.c.place)))


def after(
    session: Session, job_id: UUID, seq: int = 0, limit: int = 100, types: Collection[str] | None = None
) -> list[Event]:
    """The events numbered above `seq`, at most `limit`, in order; only of these types, if given."""
    query = select(Event).where(Event.job_id == job_id, Event.seq > seq).order_by(Event.seq).limit(limit)
    if types is not None:
        query = query.where(among(Event.type, types))
    return list(session.scalars(query))
