"""Whether the service can do its work: the database answers, its schema is this version's, the broker answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.db.session import SessionFactory, unit_of_work
from app.settings import Settings

if TYPE_CHECKING:
    from celery import Celery


@dataclass(frozen=True)
class Check:
    """What one thing that the service needs has answered."""

    ok: bool
    detail: str


@dataclass(frozen=True)
class Readiness:
    """All checks; the service is ready if every one is."""

    ready: bool
    checks: dict[str, Check]


def readiness(settings: Settings, *, factory: Callable[[], SessionFactory], celery: Callable[[], Celery]) -> Readiness:
    """Ask everything that the service needs, each on its own."""
    checks = {
        "database": _check(lambda: _database(factory())),
        "migrations": _check(lambda: _migrations(settings)),
        "broker": _check(lambda: _broker(celery())),
    }
    return Readiness(ready=all(check.ok for check in checks.values()), checks=checks)


def _check(ask: Callable[[], Check]) -> Check:
    """The answer, or that there was none: the error's kind, since its text may hold an address or a user's name."""
    try:
        return ask()
    except Exception as error:
        return Check(ok=False, detail=f"no answer ({type(error).__name__})")


def _database(factory: SessionFactory) -> Check:
    with unit_of_work(factory) as session:
        session.execute(text("SELECT 1"))
    return Check(ok=True, detail="answers")


def _migrations(settings: Settings) -> Check:
    if settings.database_url is None:
        return Check(ok=False, detail="no database is configured")
    from app.db.migrate import is_current  # Alembic: heavy, and not needed to start

    current = is_current(settings.database_url)
    return Check(ok=current, detail="up to date" if current else "not the schema of this version; run the migrations")


def _broker(celery: Celery) -> Check:
    from app.queue import depth  # Celery: likewise

    waiting = depth(celery=celery)
    if waiting is None:
        return Check(ok=False, detail="does not answer")
    return Check(ok=True, detail=f"answers; {waiting} messages wait")
