"""Sessions of the dashboard: one row for each browser that has logged in, gone when it logs out or the time is over.

Neither the cookie nor the key is kept: the row is found by the cookie's hash, and holds a proof that needs the key.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.db.tables.dashboard_sessions import DashboardSession


def insert(session: Session, id: str, *, proof: str, hours: float) -> None:
    """Open a session for so many hours; those that are over are cleared away."""
    session.execute(delete(DashboardSession).where(DashboardSession.expires_at <= func.now()))
    expires_at = func.now() + timedelta(hours=hours)
    session.add(DashboardSession(id=id, proof=proof, expires_at=expires_at))


def proof_of(session: Session, id: str) -> str | None:
    """The proof of a session that is open; None if there is none."""
    open_one = select(DashboardSession.proof).where(DashboardSession.id == id, DashboardSession.expires_at > func.now())
    return session.execute(open_one).scalar_one_or_none()


def remove(session: Session, id: str) -> None:
    """End a session; nothing happens if there is none."""
    session.execute(delete(DashboardSession).where(DashboardSession.id == id))
