"""The workers' rows: each is written by its worker, and read by whoever wants to know who would take a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.stage_ends import HELD
from app.db.tables.jobs import Stage
from app.db.tables.workers import Worker

UP = Worker.up_until > func.now()  # it has renewed its row in time
LOST_FOR = timedelta(days=1)  # then the row of a worker that did not take it away is forgotten


@dataclass(frozen=True)
class Held:
    """A stage in a worker's hands."""

    worker: str  # its name
    job_id: UUID
    key: str
    kind: str


def beat(session: Session, worker_id: UUID, told: Mapping[str, Any], *, seconds: float) -> None:
    """Write the worker's row anew; it counts as up for so many seconds."""
    renewed = {**told, "heartbeat_at": func.now(), "up_until": func.now() + timedelta(seconds=seconds)}
    row = insert(Worker).values(id=worker_id, **renewed)
    session.execute(row.on_conflict_do_update(index_elements=[Worker.id], set_=renewed))


def leave(session: Session, worker_id: UUID) -> None:
    """The worker stops."""
    session.execute(delete(Worker).where(Worker.id == worker_id))


def forget_lost(session: Session) -> None:
    """Delete the rows of those that were lost long ago."""
    session.execute(delete(Worker).where(Worker.up_until < func.now() - LOST_FOR))


def all_of(session: Session) -> list[tuple[Worker, bool]]:
    """Each worker, by name, and whether it is up."""
    return [(worker, up) for worker, up in session.execute(select(Worker, UP).order_by(Worker.name, Worker.id))]


def taking(session: Session) -> list[Worker]:
    """Those that would take a stage now: they are up, and their device works."""
    return list(session.scalars(select(Worker).where(UP, Worker.device.is_not(None)).order_by(Worker.name)))


def held(session: Session) -> list[Held]:
    """What workers run now."""
    query = select(func.split_part(Stage.worker, "#", 1), Stage.job_id, Stage.key, Stage.kind)
    running = query.where(Stage.state.in_(HELD), Stage.lease_expires_at.is_not(None)).order_by(Stage.id)
    return [Held(*row) for row in session.execute(running)]
