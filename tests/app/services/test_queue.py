"""When waiting jobs are expected to begin and to end, on real rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, update
from starlette.testclient import TestClient

from app.db.session import SessionFactory, unit_of_work
from app.db.tables.jobs import Stage
from tests.fixtures.played_worker import PlayedWorker
from tests.fixtures.worker_rows import beats

# hours, beside which the test itself takes nothing; a check's own, since one of a job here is among the past ones too
SECONDS = {"check": 2, "score": 60_000, "prune": 3000, "benchmark": 30_000, "report": 6000}
WHOLE = sum(SECONDS.values())


@pytest.fixture
def past(client: TestClient, spec: dict[str, Any], worker: PlayedWorker, sessions: SessionFactory) -> str:
    """A job that has succeeded, each of its stages in so many seconds."""
    job_id: str = client.post("/jobs", json=spec).json()["id"]
    worker.finish(job_id)
    with unit_of_work(sessions) as session:
        for kind, seconds in SECONDS.items():
            took = {"started_at": func.now() - timedelta(seconds=seconds), "finished_at": func.now()}
            session.execute(update(Stage).where(Stage.job_id == UUID(job_id), Stage.kind == kind).values(took))
    return job_id


def queue(client: TestClient, job_id: str) -> tuple[int, float | None, float | None]:
    """Its position, and the seconds until it is expected to begin and to end."""
    now = datetime.now(UTC)
    found = client.get(f"/jobs/{job_id}").json()["queue"]
    start, end = (
        None if found[name] is None else (datetime.fromisoformat(found[name]) - now).total_seconds()
        for name in ("expected_start", "expected_end")
    )
    return found["position"], start, end


def near(seconds: float) -> Any:
    return pytest.approx(seconds, abs=300)  # what the test itself takes


def test_what_has_never_run_here_is_unknown(client: TestClient, spec: dict[str, Any], sessions: SessionFactory) -> None:
    job_id = client.post("/jobs", json=spec).json()["id"]
    assert queue(client, job_id) == (1, None, None)
    beats(sessions, slots=1)
    position, start, end = queue(client, job_id)
    assert (position, start, end) == (1, near(0), None), "a worker is free, and how long it takes is not known"


def test_jobs_that_wait_are_told_when_they_begin_and_end(
    client: TestClient, spec: dict[str, Any], past: str, worker: PlayedWorker, sessions: SessionFactory
) -> None:
    beats(sessions, slots=1)
    running, second, third = (client.post("/jobs", json=spec).json()["id"] for _ in range(3))
    worker.reach(running, "score")
    left = WHOLE - SECONDS["check"]
    assert queue(client, second) == (1, near(left), near(left + WHOLE))
    assert queue(client, third) == (2, near(left + WHOLE), near(left + 2 * WHOLE))
    assert client.get(f"/jobs/{running}").json()["queue"] is None
    page = client.get(f"/ui/jobs/{third}").text
    assert "It is number 2 in the queue; 1 worker is up. It is expected to go on in" in page


def test_stages_of_the_same_model_tell_more_than_others(
    client: TestClient, spec: dict[str, Any], past: str, sessions: SessionFactory, worker: PlayedWorker
) -> None:
    beats(sessions, slots=1)
    other = {**spec, "model": {"source": "hub", "id": "another/model"}}
    first = client.post("/jobs", json=other).json()["id"]
    assert queue(client, first)[2] == near(WHOLE), "of any model, where there is none of its own"
    worker.finish(first)
    assert queue(client, client.post("/jobs", json=other).json()["id"])[2] == near(0)
    assert queue(client, client.post("/jobs", json=spec).json()["id"])[2] == near(WHOLE)
