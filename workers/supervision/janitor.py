"""The janitor: what was lost is found again. Every worker runs one, and an advisory lock lets one work at a time.

- A stage that waits and that nobody claimed for some time is sent again: its message was never sent, or the broker
  lost it. Unless as many messages wait in the broker as stages in the database: then all workers are busy.
- A stage whose lease has run out is taken from its worker, and goes back to the queue.
- A stage that waits for the result of an identical one, which computes no longer, has its turn.
- A job whose deadline has passed is cancelled.
- Folders in the store that no stage has as its output are deleted: of attempts that lost their claim, of deleted jobs.
  So are data sets that no row names: of uploads that broke off at the very end, of deletions that did. Only in a store
  that belongs to this database (`ownership.py`).

Each step is safe against a second janitor and against workers; the lock only saves work. Scratch is swept by every
worker on its own host.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import TypeVar
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.blobs.store import DATASETS, ArtifactStore, read_owner, set_owner
from app.db import claims, datasets, jobs, stages, twins, workers
from app.db.session import SessionFactory, is_disconnect, unit_of_work, what_broke
from app.db.tables.installation import installation
from app.settings import Settings
from secateur.contract.errors import StageFailed
from workers.supervision import scratch
from workers.supervision.ownership import is_ours
from workers.supervision.worker_metrics import WorkerMetrics

logger = logging.getLogger(__name__)

LOCK = 7_232_032  # advisory lock; the migrations use the number before
SWEEP_SECONDS = 600.0  # how often the store and the scratch are swept
DAY = 86_400.0  # seconds
BATCH = 20_000  # folders that one query asks about

T = TypeVar("T")


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
        metrics: WorkerMetrics | None = None,
    ) -> None:
        """`send` wakes a worker for a stage; `depth` counts the messages that wait, None if the broker is down."""
        super().__init__(name="janitor", daemon=True)
        self._settings, self._sessions, self._store = settings, sessions, store
        self._send, self._depth = send, depth
        self._metrics = metrics or WorkerMetrics()
        self._done = threading.Event()

    def run(self) -> None:
        """Tidy up at once, and then every so often, until `stop`."""
        sweep_at = 0.0
        while True:
            self.tick()
            if time.monotonic() >= sweep_at:
                self.sweep()
                sweep_at = time.monotonic() + SWEEP_SECONDS
            if self._done.wait(self._settings.janitor_seconds):
                return

    def stop(self) -> None:
        """Do not begin another round."""
        self._done.set()

    def tick(self) -> None:
        """Rescue, cancel what is overdue, send again; whatever fails, the rest is done."""
        with self._guarded("its election"), self._elected() as elected:
            if elected:
                for step in (
                    self.rescue,
                    self.wake,
                    self.cancel_overdue,
                    self.resend,
                    self.fold_counts,
                    self.forget_workers,
                ):
                    with self._guarded(step.__name__):
                        step()

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
                self._metrics.rescued()
                logger.warning("stage %s: its lease had run out; it is %s now", stage_id, ended.state)
            for waiting in ended.send:
                self._send(waiting)

    def wake(self) -> None:
        """Give those stages their turn whose twin has ended while nobody was there to tell."""
        with unit_of_work(self._sessions) as session:
            woken = twins.wake(session)
        for stage_id in woken:
            self._send(stage_id)

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

    def fold_counts(self) -> None:
        """Keep what is summed up to count jobs short."""
        with unit_of_work(self._sessions) as session:
            jobs.fold_counts(session)

    def forget_workers(self) -> None:
        """Delete the rows of workers that were killed long ago."""
        with unit_of_work(self._sessions) as session:
            workers.forget_lost(session)

    def sweep(self) -> None:
        """Delete what nobody needs any more, from the store and from this host; whatever fails, the rest is done."""
        places = (
            (self.owns_store, (self.sweep_attempts, self.sweep_datasets, self.sweep_half_made)),
            (self.owns_scratch, (self.sweep_scratch,)),
        )
        for owns, steps in places:
            with self._guarded(owns.__name__):
                if not owns():
                    continue
                for step in steps:
                    with self._guarded(step.__name__):
                        step()

    def owns_store(self) -> bool:
        """Whether the store is that of this worker's database."""

        def known(outputs: list[str]) -> bool:
            uploads = {UUID(output.rsplit("/", 1)[1]) for output in outputs if output.startswith(f"{DATASETS}/")}
            with unit_of_work(self._sessions) as session:
                return bool(stages.outputs_in_use(session, outputs) or datasets.known(session, uploads))

        return is_ours(
            "the store",
            self._installation(),
            read=self._store.owner,
            mark=self._store.set_owner,
            found=chain(
                (output for _, _, output in self._store.attempts()), (output for _, output in self._store.datasets())
            ),
            known=known,
        )

    def owns_scratch(self) -> bool:
        """Whether this host's scratch is that of this worker's database."""

        def known(stage_ids: list[UUID]) -> bool:
            with unit_of_work(self._sessions) as session:
                return stages.known(session, stage_ids)

        work_dir = self._settings.work_dir.resolve()
        return is_ours(
            str(work_dir),
            self._installation(),
            read=partial(read_owner, work_dir),
            mark=partial(set_owner, work_dir),
            found=scratch.stages_in(work_dir),
            known=known,
        )

    def _installation(self) -> UUID:
        with unit_of_work(self._sessions) as session:
            found: UUID = session.execute(select(installation.c.id)).scalar_one()
        return found

    def sweep_attempts(self) -> None:
        """Delete the folders of the store that no stage has as its output and no worker is filling."""
        # listed before the database is asked: what is put later is not in the list, and a claim that is seen to be
        # over then will never be committed
        for attempts in _batches(self._store.attempts()):
            with unit_of_work(self._sessions) as session:
                held = stages.tokens_held(session, {stage_id for stage_id, _, _ in attempts})
                used = stages.outputs_in_use(session, {output for _, _, output in attempts})
            for stage_id, token, output in attempts:
                if output not in used and held.get(stage_id) != token:
                    self._delete_folder(output, "no stage has it as its output")

    def sweep_datasets(self) -> None:
        """Delete the files of uploads that no row names."""
        for found in _batches(self._store.datasets()):
            with unit_of_work(self._sessions) as session:
                known = datasets.known(session, {dataset_id for dataset_id, _ in found})
            for dataset_id, output in found:
                # the id is made just before the file is put, and its row comes just after
                if dataset_id not in known and _age(dataset_id) > DAY:
                    self._delete_folder(output, "no data set has it")

    def sweep_half_made(self) -> None:
        """Delete what writers that were killed have left in the store."""
        self._store.sweep(older_than=DAY)

    def sweep_scratch(self) -> None:
        """Delete this host's scratch of stages that are over, or that nobody came back to."""
        work_dir, keep = self._settings.work_dir.resolve(), self._settings.keep_days * DAY
        for batch in _batches(scratch.stages_in(work_dir)):
            found = set(batch)
            with unit_of_work(self._sessions) as session:
                unfinished = stages.unfinished(session, found)
                held = set(stages.tokens_held(session, found))
            scratch.sweep(work_dir, found - unfinished)
            scratch.sweep(work_dir, unfinished - held, older_than=keep)
        scratch.sweep_cache(self._settings.cache_dir.resolve() / "artifacts", older_than=keep)

    def _delete_folder(self, output: str, why: str) -> None:
        """Delete a folder of the store. One that cannot be deleted does not keep the others."""
        logger.info("deleting %s from the store: %s", output, why)
        with self._guarded(f"deleting {output}"):
            self._store.delete_folder(output)

    @contextmanager
    def _elected(self) -> Iterator[bool]:
        """Whether this janitor is the one to work now.

        The lock belongs to a transaction, not to the connection: if this process is stopped while it holds it, the
        server ends the idle transaction and another janitor takes over.
        """
        with unit_of_work(self._sessions) as session:
            yield session.execute(select(func.pg_try_advisory_xact_lock(LOCK))).scalar_one()

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """A janitor outlives every failure, and says what it was: there is another round."""
        try:
            yield
        except SQLAlchemyError as error:
            # an error of a query is a defect, or the schema of another version: it needs its traceback
            level, shown = (logging.WARNING, None) if is_disconnect(error) else (logging.ERROR, error)
            logger.log(level, "the janitor (%s): %s; next round, again", what, what_broke(error), exc_info=shown)
        except Exception:
            logger.exception("the janitor failed (%s); it goes on in the next round", what)


def _batches(found: Iterable[T]) -> Iterator[list[T]]:
    """What a listing yields, some at a time: the memory and the query of a sweep stay small, however much there is."""
    rest = iter(found)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _age(made: UUID) -> float:
    """Seconds since a UUIDv7 was made: its first 48 bits are the time in milliseconds."""
    return time.time() - (made.int >> 80) / 1000
