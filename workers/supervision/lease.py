"""Keeping a claim: a thread that renews the lease and looks for a cancel, whatever the supervisor is doing.

The guardian of the stage process learns of each renewal. It counts from before the renewal was sent, and the database
from when it was done, so the process is ended before the database lets anybody else have the stage.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from app.db import claims, jobs
from app.db.claims import Claim, Standing
from app.db.session import SessionFactory, unit_of_work, what_broke
from app.settings import Settings
from secateur.contract.use import StageUse
from workers.launch.fork_server import StageProcess
from workers.launch.guardian import lease_clock

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # how often a cancel is looked for
MARGIN = 0.1  # of the lease: the process is ended by so much earlier than the lease


class LeaseKeeper(threading.Thread):
    """Renews one claim until it is stopped or lost. `standing` is how it was when last looked at."""

    def __init__(self, sessions: SessionFactory, claim: Claim, settings: Settings, *, until: float) -> None:
        super().__init__(name=f"lease-{claim.stage_id}", daemon=True)
        self.standing = Standing.HELD
        self.until = until  # by `lease_clock`: when the process is ended if nothing is heard of the database
        self.use: StageUse | None = None  # what the stage uses now, which a renewal writes as well
        self._sessions, self._claim, self._settings = sessions, claim, settings
        self._process: StageProcess | None = None
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._context = contextvars.copy_context()  # what it logs is about the stage that its maker runs

    @staticmethod
    def first_until(settings: Settings, begun: float) -> float:
        """The end of a lease that a claim begun at `begun` has taken."""
        return begun + settings.lease_seconds * (1 - MARGIN)

    def watch(self, process: StageProcess | None) -> None:
        """Tell this process of renewals from now on."""
        with self._lock:
            self._process = process
            if process is not None:
                process.extend(self.until)

    def run(self) -> None:
        self._context.run(self._keep)

    def _keep(self) -> None:
        renewed = time.monotonic()
        poll = min(POLL_SECONDS, self._settings.heartbeat_seconds)
        while not self._done.wait(poll) and self.standing is not Standing.LOST:
            due = time.monotonic() - renewed >= self._settings.heartbeat_seconds
            try:
                if due:
                    self._renew()
                    renewed = time.monotonic()
                else:
                    self._look()
            except SQLAlchemyError as error:  # the guardian ends the process if it lasts
                logger.warning(
                    "the lease of stage %s could not be renewed: %s", self._claim.stage_id, what_broke(error)
                )

    def stop(self) -> None:
        """No more renewals. A renewal that the database has not answered is left behind: it harms nobody."""
        self._done.set()
        self.join(timeout=1.0)

    def _renew(self) -> None:
        begun = lease_clock()
        with unit_of_work(self._sessions) as session:
            self.standing = claims.renew(session, self._claim, lease_seconds=self._settings.lease_seconds, use=self.use)
        if self.standing is Standing.LOST:
            return
        with self._lock:
            self.until = self.first_until(self._settings, begun)
            if self._process is not None:
                self._process.extend(self.until)

    def _look(self) -> None:
        with unit_of_work(self._sessions) as session:
            self.standing, overdue = claims.look(session, self._claim)
            if overdue and self.standing is Standing.HELD:
                jobs.cancel_if_overdue(session, self._claim.job_id)  # seen as a cancel when looked next
