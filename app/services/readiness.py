"""Whether the service can do its work: database, schema, broker and store answer.

Each is asked in a thread of this module's own, with a bound, and by connections of its own: what keeps requests waiting
(a pool that is used up, a store that hangs) is then told, and not waited for as well. Those who ask at the same time
share one answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.blobs.store import ArtifactStore
from app.db import workers
from app.db.session import make_poolless_engine
from app.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

ASK_SECONDS = 6.0  # above the time-outs of what is asked, which tell more


@dataclass(frozen=True)
class Check:
    """What one thing that the service needs has answered."""

    ok: bool
    detail: str
    needed: bool = True  # whether the service is ready only with it


@dataclass(frozen=True)
class Readiness:
    """All checks; the service is ready if every one is that it needs."""

    ready: bool
    checks: dict[str, Check]


class Prober:
    """Asks everything that one application needs."""

    def __init__(self, settings: Settings, *, celery: Callable[[], Celery], store: Callable[[], ArtifactStore]) -> None:
        self._asks: dict[str, Callable[[], Check]] = {
            "database": lambda: _database(settings),
            "migrations": lambda: _migrations(settings),
            "broker": lambda: _broker(celery()),
            "store": lambda: _store(store()),
            "workers": lambda: _workers(settings),
        }
        self._threads = ThreadPoolExecutor(2 * len(self._asks), thread_name_prefix="readiness")
        self._asking: asyncio.Task[Readiness] | None = None

    async def ask(self) -> Readiness:
        """The answer of now."""
        if self._asking is None or self._asking.done() or self._asking.get_loop() is not asyncio.get_running_loop():
            self._asking = asyncio.create_task(self._ask_all())
        return await asyncio.shield(self._asking)  # one who goes away does not end it for the others

    def close(self) -> None:
        """Let go of the threads; one that hangs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask_all(self) -> Readiness:
        answers = await asyncio.gather(*(self._bounded(ask) for ask in self._asks.values()))
        checks = dict(zip(self._asks, answers, strict=True))
        return Readiness(ready=all(check.ok or not check.needed for check in answers), checks=checks)

    async def _bounded(self, ask: Callable[[], Check]) -> Check:
        """The answer, or that there was none: the error's kind, since its text may hold an address or a user's name."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except TimeoutError:
            return Check(ok=False, detail=f"no answer within {ASK_SECONDS:.0f} s")
        except Exception as error:
            return Check(ok=False, detail=f"no answer ({type(error).__name__})")


def _database(settings: Settings) -> Check:
    if settings.database_url is None:
        return Check(ok=False, detail="no database is configured")
    with make_poolless_engine(settings.database_url).connect() as connection:
        connection.execute(text("SELECT 1"))
    return Check(ok=True, detail="answers")


def _migrations(settings: Settings) -> Check:
    if settings.database_url is None:
        return Check(ok=False, detail="no database is configured")
    from app.db.migrate import is_current  # Alembic: heavy, and not needed to start

    current = is_current(settings.database_url)
    return Check(ok=current, detail="up to date" if current else "not the schema of this version; run the migrations")


def _broker(celery: Celery) -> Check:
    from app.broker.queue import depth  # Celery: likewise

    waiting = depth(celery=celery)
    if waiting is None:
        return Check(ok=False, detail="does not answer")
    return Check(ok=True, detail=f"answers; {waiting} messages wait")


def _store(store: ArtifactStore) -> Check:
    store.ready()
    return Check(ok=True, detail="answers")


def _workers(settings: Settings) -> Check:
    """Requests are answered without workers, and jobs wait: so it is told, and keeps nobody from asking."""
    if settings.database_url is None:
        return Check(ok=False, detail="no database is configured", needed=False)
    try:
        with Session(make_poolless_engine(settings.database_url)) as session:
            up = len(workers.taking(session))
    except SQLAlchemyError as error:
        return Check(ok=False, detail=f"not known ({type(error).__name__})", needed=False)
    if up == 0:
        return Check(ok=False, detail="none is up that takes stages; jobs wait until one is", needed=False)
    return Check(ok=True, detail=f"{up} up", needed=False)
