"""The janitor: what was lost is found again. Every worker runs one, and an advisory lock lets one work at a time.

- A stage that waits and that nobody claimed for some time is sent again: its message was never sent, or the broker
  lost it. Unless as many messages wait in the broker as stages in the database: then all workers are busy.
- A stage whose lease has run out is taken from its worker, and goes back to the queue.
- A job whose deadline has passed is cancelled.
- Folders in the store that no stage has as its output are deleted: of attempts that lost their claim, of deleted jobs.
  So are data sets that no row names: of uploads that broke off at the very end, of deletions that did.

Each step is safe against a second janitor and against workers; the lock only saves work. Scratch is swept by every
worker on its own host.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.db import claims, datasets, jobs, stages
from app.db.session import SessionFactory, unit_of_work
from app.errors import StageFailed
from app.settings import Settings
from app.storage import ArtifactStore
from workers import scratch

logger = logging.getLogger(__name__)

LOCK = 7_232_032  # advisory lock; the migrations use the number before
SWEEP_SECONDS = 600.0  # how often the store and the scratch are swept
DAY = 86_400.0  # seconds


class Janitor(threading.Thread):
    """The janitor of one worker."""

    def __init__(
        self,
        settings: Settings,
        sessions: SessionFactory,
        store: ArtifactStore,
        *,
        send: Callable[[UUID], object],
        depth: Callable[[], int | None],
    ) -> None:
        """`send` wakes a worker for a stage; `depth` counts the messages that wait, None if the broker is down."""
        super().__init__(name="janitor", daemon=True)
        self._settings, self._sessions, self._store = settings, sessions, store
        self._send, self._depth = send, depth
        self._done = threading.Event()

    def run(self) -> None:
        """Tidy up at once, and then every so often, until `stop`."""
        sweep_at = 0.0
        while True:
            self._guarded(self.tick)
            if time.monotonic() >= sweep_at:
                self._guarded(self.sweep)
                sweep_at = time.monotonic() + SWEEP_SECONDS
            if self._done.wait(self._settings.janitor_seconds):
                return

    def stop(self) -> None:
        """Do not begin another round."""
        self._done.set()

    def tick(self) -> None:
        """Rescue, cancel what is overdue, send again."""
        with self._elected() as elected:
            if elected:
                self.rescue()
                self.cancel_overdue()
                self.resend()

    def rescue(self) -> None:
        """Put the stages of dead workers back into the queue."""
        problem = StageFailed("The stage's worker was lost: it was killed, stopped, or cut off from the database.")
        with unit_of_work(self._sessions) as session:
            expired = stages.expired(session)
        for stage_id in expired:
            with unit_of_work(self._sessions) as session:
                ended = claims.rescue(
                    session, stage_id, problem=problem.to_problem(), max_attempts=self._settings.max_attempts
                )
            if ended.state is not None:
                logger.warning("stage %s: its lease had run out; it is %s now", stage_id, ended.state)
            if ended.send is not None:
                self._send(ended.send)

    def cancel_overdue(self) -> None:
        """Cancel the jobs whose deadline has passed."""
        with unit_of_work(self._sessions) as session:
            overdue = jobs.overdue(session)
        for job_id in overdue:
            with unit_of_work(self._sessions) as session:
                jobs.cancel_if_overdue(session, job_id)

    def resend(self) -> None:
        """Send the stages again that nobody claimed."""
        waiting_in_broker = self._depth()
        if waiting_in_broker is None:
            return
        with unit_of_work(self._sessions) as session:
            if waiting_in_broker >= stages.count_waiting(session):
                return
            unclaimed = stages.take_unclaimed(session, older_than=self._settings.resend_seconds)
        for stage_id in unclaimed:
            logger.info("stage %s waits unclaimed; sending it again", stage_id)
            self._send(stage_id)

    def sweep(self) -> None:
        """Delete what nobody needs any more, from the store and from this host."""
        self._sweep_store()
        self._sweep_scratch()

    def _sweep_store(self) -> None:
        # listed before the database is asked: what is put later is not in the list, and a claim that is seen to be
        # over then will never be committed
        attempts = list(self._store.attempts())
        with unit_of_work(self._sessions) as session:
            held = stages.tokens_held(session, {stage_id for stage_id, _, _ in attempts})
            used = stages.outputs_in_use(session, {output for _, _, output in attempts})
        for stage_id, token, output in attempts:
            if output not in used and held.get(stage_id) != token:
                logger.info("deleting %s from the store: no stage has it as its output", output)
                self._store.delete_folder(output)
        self._sweep_datasets()
        self._store.sweep(older_than=DAY)

    def _sweep_datasets(self) -> None:
        found = dict(self._store.datasets())
        with unit_of_work(self._sessions) as session:
            known = set(datasets.find(session, found))
        for dataset_id, output in found.items():
            # the id is made just before the file is put, and its row comes just after
            if dataset_id not in known and _age(dataset_id) > DAY:
                logger.info("deleting %s from the store: no data set has it", output)
                self._store.delete_folder(output)

    def _sweep_scratch(self) -> None:
        work_dir, keep = self._settings.work_dir.resolve(), self._settings.keep_days * DAY
        found = set(scratch.stages_in(work_dir))
        with unit_of_work(self._sessions) as session:
            unfinished = stages.unfinished(session, found)
            held = set(stages.tokens_held(session, found))
        scratch.sweep(work_dir, found - unfinished)
        scratch.sweep(work_dir, unfinished - held, older_than=keep)
        scratch.sweep_cache(self._settings.cache_dir.resolve() / "artifacts", older_than=keep)

    @contextmanager
    def _elected(self) -> Iterator[bool]:
        """Whether this janitor is the one to work now.

        The lock belongs to a transaction, not to the connection: if this process is stopped while it holds it, the
        server ends the idle transaction and another janitor takes over.
        """
        with unit_of_work(self._sessions) as session:
            yield session.execute(select(func.pg_try_advisory_xact_lock(LOCK))).scalar_one()

    def _guarded(self, step: Callable[[], None]) -> None:
        """A janitor outlives every failure: there is another round."""
        try:
            step()
        except SQLAlchemyError as error:
            logger.warning("the janitor could not reach the database: %s", type(error).__name__)
        except Exception:
            logger.exception("the janitor failed; it goes on in the next round")


def _age(made: UUID) -> float:
    """Seconds since a UUIDv7 was made: its first 48 bits are the time in milliseconds."""
    return time.time() - (made.int >> 80) / 1000
