"""One LISTEN connection of the process, shared by all its event streams.

Postgres says which job has new events (`NOTIFY secateur_events`, payload: the job's id); the hub wakes the streams of
that job, which read the events themselves. While the connection is down, and once after it came back, every stream is
woken as if its job had news, so nothing depends on a notification that nobody heard.

Open streams may hold a part of the process's connections and no more, or nobody else would be answered. One that comes
when there are so many already is given what there is, and ends; its client comes again, which is polling.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterator
from uuid import UUID

import psycopg

from app.db.answers import AnsweredAsyncConnection
from app.db.news import CHANNEL
from app.db.session import sqlalchemy_url

logger = logging.getLogger("app.events")

POLL_SECONDS = 1.0  # how often streams look by themselves while the connection is down
CHECK_SECONDS = 20.0  # how long without a notification before the connection is tried


class Subscription:
    """One stream's wake-up; `stays`: whether there is room for it to wait for news."""

    def __init__(self, *, stays: bool) -> None:
        self.stays = stays
        self._event = asyncio.Event()

    def clear(self) -> None:
        """Forget earlier news."""
        self._event.clear()

    def wake(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Whether there was news within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


class EventHub:
    """Begins to listen with the first stream; lives on the application's event loop."""

    def __init__(self, database_url: str | None, *, most: int) -> None:
        """`most`: streams that may be open at a time."""
        self._url = database_url
        self._most = most
        self._staying = 0
        self._subscriptions: dict[UUID, set[Subscription]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closing = False

    @contextlib.contextmanager
    def subscribe(self, *job_ids: UUID) -> Iterator[Subscription]:
        """News of these jobs while the block runs."""
        subscription = Subscription(stays=self._staying < self._most)
        self._staying += subscription.stays
        for job_id in job_ids:
            self._subscriptions[job_id].add(subscription)
        self._loop = asyncio.get_running_loop()
        if self._task is None and self._url is not None and not self.closing:
            self._task = self._loop.create_task(self._listen(self._url), name="event hub")
        try:
            yield subscription
        finally:
            self._staying -= subscription.stays
            for job_id in job_ids:
                self._subscriptions[job_id].discard(subscription)
                if not self._subscriptions[job_id]:
                    del self._subscriptions[job_id]

    def end_streams(self) -> None:
        """Let every stream end after what it has sent: the process is shutting down, and clients resume elsewhere.

        May be called from a signal handler or another thread.
        """
        self.closing = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake_all)

    async def close(self) -> None:
        """End the streams and the connection."""
        self.end_streams()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def _wake_all(self) -> None:
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.wake()

    async def _listen(self, url: str) -> None:
        dsn = sqlalchemy_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        while True:
            try:
                await self._listen_once(dsn)
            except psycopg.Error as error:
                logger.warning("event notifications are down (%s); streams look by themselves", type(error).__name__)
            self._wake_all()
            await asyncio.sleep(POLL_SECONDS)

    async def _listen_once(self, dsn: str) -> None:
        """Until the connection breaks, which is a psycopg.Error."""
        connection = await AnsweredAsyncConnection.connect(
            dsn, autocommit=True, connect_timeout=5, application_name="secateur events"
        )
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            self._wake_all()  # for what was committed before this LISTEN
            while True:
                async for notification in connection.notifies(timeout=CHECK_SECONDS):
                    with contextlib.suppress(ValueError):
                        for subscription in self._subscriptions.get(UUID(notification.payload), ()):
                            subscription.wake()
                await connection.execute("SELECT 1")  # a peer that vanished says nothing until it is spoken to
