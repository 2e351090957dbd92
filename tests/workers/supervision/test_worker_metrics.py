"""A worker's own figures for Prometheus: counted by what really runs, and served at an address."""

from __future__ import annotations

from uuid import UUID

import httpx
import pytest
from pydantic import ValidationError

from app.blobs.store import ArtifactStore
from app.db import claims
from app.db.session import unit_of_work
from app.settings import Settings
from tests.fixtures.processes import free_port
from tests.fixtures.service import Service
from tests.fixtures.supervisors import drive, make_supervisor
from workers.launch.fork_server import ForkServer
from workers.supervision.janitor import Janitor
from workers.supervision.worker_metrics import WorkerMetrics


def counted(metrics: WorkerMetrics) -> dict[tuple[str, str], float]:
    """Attempts by kind of stage and end."""
    (family,) = (family for family in metrics.registry.collect() if family.name == "secateur_stage_seconds")
    counts = [sample for sample in family.samples if sample.name.endswith("_count")]
    return {(sample.labels["kind"], sample.labels["end"]): sample.value for sample in counts}


def value(metrics: WorkerMetrics, name: str, **labels: str) -> float | None:
    found: float | None = metrics.registry.get_sample_value(name, labels)
    return found


def test_attempts_are_counted_by_how_they_end(service: Service, store: ArtifactStore, forkserver: ForkServer) -> None:
    metrics = WorkerMetrics()
    supervisor = make_supervisor(service, store, forkserver, metrics=metrics)
    drive(service, supervisor, service.submit(send=False, check="crash:1", prune="error"))
    assert counted(metrics) == {
        ("check", "queued"): 1,  # it crashed, and waits for another attempt
        ("check", "succeeded"): 1,
        ("score", "succeeded"): 1,
        ("prune", "failed"): 1,
    }
    assert value(metrics, "secateur_stages_running", kind="prune") == 0
    supervisor.run_next()  # nothing waits, so nothing is counted
    assert sum(counted(metrics).values()) == 4


def test_an_attempt_that_breaks_is_counted_and_runs_no_more() -> None:
    metrics = WorkerMetrics()
    at_work = []

    def broken() -> None:
        with metrics.attempt("score"):
            at_work.append(value(metrics, "secateur_stages_running", kind="score"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert at_work == [1]
    assert counted(metrics) == {("score", "lost"): 1}
    assert value(metrics, "secateur_stages_running", kind="score") == 0


def test_the_janitor_counts_the_leases_that_it_rescues(service: Service, store: ArtifactStore) -> None:
    metrics, sent = WorkerMetrics(), list[UUID]()
    service.submit(send=False)
    with unit_of_work(service.sessions) as session:
        assert claims.claim_next(session, worker="gone", lease_seconds=-1)
    janitor = Janitor(service.settings, service.sessions, store, send=sent.append, depth=lambda: 0, metrics=metrics)
    for _ in range(2):
        janitor.rescue()
    assert value(metrics, "secateur_leases_rescued_total") == 1


def test_they_are_served_at_an_address() -> None:
    metrics, works = WorkerMetrics(), True
    port = free_port()
    stop = metrics.serve(f"127.0.0.1:{port}", slots=3, device_works=lambda: works)
    try:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
        assert "secateur_worker_slots 3.0" in text
        assert "secateur_worker_device_works 1.0" in text
        works = False
        assert "secateur_worker_device_works 0.0" in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
        with pytest.raises(OSError, match="in use"):
            WorkerMetrics().serve(f"127.0.0.1:{port}", slots=1, device_works=lambda: True)
    finally:
        stop()


@pytest.mark.parametrize("address", ["9808", "host:", ":9808", "host:99999", "a b:1", "::1:9808"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValidationError, match=r"is no HOST:PORT, such as 127\.0\.0\.1:9808"):
        Settings(metrics_address=address)


def test_an_address_may_be_of_either_family() -> None:
    assert [Settings(metrics_address=one).metrics_address for one in ("0.0.0.0:9808", "[::1]:9808")] == [
        "0.0.0.0:9808",
        "[::1]:9808",
    ]
