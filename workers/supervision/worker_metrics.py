"""A worker's figures for Prometheus: what it runs, how long stages took and how they ended, leases rescued.

The API's `/metrics` tells what the database knows of all workers; this is what one worker has seen since it started.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from secateur.about import VERSION
from secateur.contract.jobs import State

SECONDS = (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000, 86400)  # upper bounds; stages take seconds to days
LOST = "lost"  # in place of a state: the claim was somebody else's by then, or is left to the janitor


@dataclass
class Attempt:
    """One attempt at a stage; whoever runs it says how it ended."""

    end: str = LOST


class WorkerMetrics:
    """The registry of one worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "secateur_stage_seconds",
            "Seconds of an attempt at a stage; `end` is the stage's state afterwards, or lost.",
            ["kind", "end"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._running = Gauge("secateur_stages_running", "Stages at work.", ["kind"], registry=self.registry)
        self._rescued = Counter(
            "secateur_leases_rescued", "Stages taken from workers whose lease had run out.", registry=self.registry
        )
        self._slots = Gauge("secateur_worker_slots", "Stages that it runs at a time.", registry=self.registry)
        self._device = Gauge(
            "secateur_worker_device_works", "Whether its device works; 0: it takes no stages.", registry=self.registry
        )
        build = Gauge("secateur_build_info", "The version that runs.", ["version"], registry=self.registry)
        build.labels(VERSION).set(1)

    @contextmanager
    def attempt(self, kind: str) -> Iterator[Attempt]:
        """Count an attempt at a stage of this kind, whatever becomes of it."""
        attempt, began = Attempt(), time.monotonic()
        self._running.labels(kind).inc()
        try:
            yield attempt
        finally:
            self._running.labels(kind).dec()
            self._seconds.labels(kind, attempt.end).observe(time.monotonic() - began)

    def rescued(self) -> None:
        """A lease had run out, and its stage was taken from its worker."""
        self._rescued.inc()

    def serve(self, address: str, *, slots: int, device_works: Callable[[], bool]) -> Callable[[], None]:
        """Answer at HOST:PORT, from a thread; what is returned ends that. Raises OSError."""
        host, _, port = address.rpartition(":")
        self._slots.set(slots)
        self._device.set_function(lambda: float(device_works()))
        server, thread = start_http_server(int(port), addr=host.strip("[]"), registry=self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop


def end_of(state: State | None) -> str:
    """How an attempt ended, as a label."""
    return LOST if state is None else state.value
