"""Sends messages about stages behind a request's back, so that no answer waits for the broker.

A message is a hint (`app.broker.queue`): what is lost here, with the process or because the broker is down for long,
the janitor sends again. One goes at once; those that come while it is on its way, and in the short rest after, go
together in one trip: where there are many, trips would take more time than what they are about.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import UUID

logger = logging.getLogger(__name__)

BATCH = 500  # messages in one trip
REST_SECONDS = 0.02  # between two trips
MOST_WAITING = 10_000  # for a broker that is down; the janitor sends the rest


class Sender:
    """One thread that sends; it begins with the first stage, and again after `stop`."""

    def __init__(self, send_stages: Callable[[Sequence[UUID]], object]) -> None:
        self._send_stages = send_stages
        self._waiting: queue.Queue[UUID | None] = queue.Queue(MOST_WAITING)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def send(self, stage_id: UUID) -> None:
        """Send this stage, whose row is committed, as soon as may be."""
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
                    self._thread.start()
        try:
            self._waiting.put_nowait(stage_id)
        except queue.Full:
            logger.warning("the broker is behind; the janitor will send stage %s", stage_id)

    def flush(self, *, seconds: float) -> bool:
        """Wait until everything that was given is sent, or was refused by the broker; False if that takes longer."""
        give_up = time.monotonic() + seconds
        with self._waiting.all_tasks_done:
            while self._waiting.unfinished_tasks:
                if not self._waiting.all_tasks_done.wait(max(0.0, give_up - time.monotonic())):
                    return False
        return True

    def stop(self, *, seconds: float) -> None:
        """End the thread, when all is sent or so many seconds have passed."""
        self.flush(seconds=seconds)
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is not None:
            with suppress(queue.Full):
                self._waiting.put_nowait(None)

    def _run(self) -> None:
        going_on = True
        while going_on:
            taken = [self._waiting.get()]
            with suppress(queue.Empty):
                while len(taken) < BATCH:
                    taken.append(self._waiting.get_nowait())
            batch = [stage_id for stage_id in taken if stage_id is not None]
            going_on = len(batch) == len(taken)
            try:
                if batch:
                    self._send_stages(batch)
            except Exception:
                logger.warning("%d stages were not sent; the janitor will", len(batch), exc_info=True)
            for _ in taken:
                self._waiting.task_done()
            if going_on:
                time.sleep(REST_SECONDS)
