"""A worker's row among those that are seen: renewed as long as the worker lives, taken away when it stops.

The lease of a stage says whether its worker holds it; this row says whether there is a worker at all, and what it has.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from app.db import workers
from app.db.base import new_id
from app.db.session import SessionFactory, unit_of_work, what_broke
from app.settings import Settings
from secateur.about import VERSION
from workers.launch.device import WorkerDevice
from workers.machine.memory import stage_limit

logger = logging.getLogger(__name__)

MISSED = 4  # heartbeats, after which a worker counts as lost


def worker_name() -> str:
    """What this worker is called: its claims begin so."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Presence(threading.Thread):
    """Keeps the row of one worker."""

    def __init__(self, settings: Settings, sessions: SessionFactory, device: WorkerDevice) -> None:
        super().__init__(name="presence", daemon=True)
        self.id = new_id()
        self._settings, self._sessions, self._device = settings, sessions, device
        self._done = threading.Event()

    def run(self) -> None:
        """Write the row at once and then with every heartbeat, until `stop`."""
        while not self._done.is_set():
            self.beat()
            self._done.wait(self._settings.heartbeat_seconds)
        self._guarded("taking its row away", self._leave)

    def beat(self) -> None:
        """Write the row now: whoever knows that something has changed need not wait."""
        self._guarded("renewing its row", self._write)

    def stop(self) -> None:
        """The worker is going: take the row away."""
        self._done.set()

    def _write(self) -> None:
        with unit_of_work(self._sessions) as session:
            workers.beat(session, self.id, self._told(), seconds=MISSED * self._settings.heartbeat_seconds)

    def _leave(self) -> None:
        with unit_of_work(self._sessions) as session:
            workers.leave(session, self.id)

    def _told(self) -> dict[str, Any]:
        settings, working = self._settings, self._device.working
        return {
            "name": worker_name(),
            "host": socket.gethostname(),
            "version": VERSION,
            "slots": settings.concurrency,
            "stage_memory": stage_limit(settings.stage_memory_bytes, slots=settings.concurrency),
            "device": None if working is None else working.setting.partition(":")[0],
            "device_name": None if working is None else working.name or working.kind,
            "device_memory": None if working is None else working.memory or None,
            "flops": None if working is None else working.flops or None,
            "weights_read": None if working is None else working.weights_read or None,
            "problem": self._device.problem,
        }

    def _guarded(self, what: str, step: Any) -> None:
        """A database that is away is no reason to stop: the next heartbeat tries again."""
        try:
            step()
        except SQLAlchemyError as error:
            logger.warning("the worker (%s): %s", what, what_broke(error))
