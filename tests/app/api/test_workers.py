"""Workers are seen, and a job that waits says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from app.db import workers
from app.db.session import SessionFactory, unit_of_work
from secateur.schemas.workers import WorkerList
from tests.fixtures.model_folders import checkpoint, local
from tests.fixtures.played_worker import PlayedWorker
from tests.fixtures.smollm2 import SMOLLM2_CONFIG
from tests.fixtures.worker_rows import GPU, beats

Submit = Callable[..., dict[str, Any]]


def listed(client: TestClient) -> dict[str, Any]:
    answer = client.get("/workers")
    assert answer.status_code == 200, answer.text
    return {worker.name: worker for worker in WorkerList.model_validate(answer.json()).data}


def test_each_worker_with_what_it_has(client: TestClient, sessions: SessionFactory) -> None:
    assert listed(client) == {}
    beats(sessions)
    beats(sessions, **{**GPU, "slots": 1})
    beats(sessions, name="host-3:7", device=None, device_name=None, device_memory=None, problem="the driver is too old")
    beats(sessions, seconds=-1, name="host-4:7")
    found = listed(client)
    assert {name: worker.state for name, worker in found.items()} == {
        "host-1:7": "up",
        "host-2:7": "up",
        "host-3:7": "idle",
        "host-4:7": "lost",
    }
    gpu = found["host-2:7"]
    assert (gpu.device, gpu.device_name, gpu.device_memory_bytes, gpu.slots) == ("cuda", "NVIDIA H200", 150 * 10**9, 1)
    assert found["host-3:7"].problem == "the driver is too old"


def test_what_each_runs(client: TestClient, sessions: SessionFactory, submit: Submit, worker: PlayedWorker) -> None:
    beats(sessions, name="played")
    beats(sessions, name="another:1")
    job = submit()["id"]
    claim = worker.claim(job)
    running = listed(client)["played"].running
    assert [(str(stage.job_id), stage.key) for stage in running] == [(job, "check")]
    assert listed(client)["another:1"].running == []
    worker.succeed(claim)
    assert listed(client)["played"].running == []


def test_a_row_is_renewed_taken_away_and_forgotten(client: TestClient, sessions: SessionFactory) -> None:
    gone, lost = beats(sessions, name="gone:1"), beats(sessions, seconds=-3600, name="lost:1")
    beats(sessions, seconds=-2 * 86_400, name="forgotten:1")
    with unit_of_work(sessions) as session:
        workers.leave(session, gone)
        workers.forget_lost(session)
    assert set(listed(client)) == {"lost:1"}
    with unit_of_work(sessions) as session:
        workers.beat(session, lost, {**GPU, "name": "lost:1"}, seconds=60)
    assert listed(client)["lost:1"].state == "up"


def test_readiness_says_whether_a_worker_is_up(client: TestClient, sessions: SessionFactory) -> None:
    beats(sessions, seconds=-1)
    beats(sessions, device=None, problem="broken")
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    assert answer.json()["checks"]["workers"] == {
        "ok": False,
        "detail": "none is up that takes stages; jobs wait until one is",
        "needed": False,
    }
    beats(sessions)
    assert client.get("/readyz").json()["checks"]["workers"] == {"ok": True, "detail": "1 up", "needed": False}


def test_a_waiting_job_says_where_it_stands(
    client: TestClient, sessions: SessionFactory, submit: Submit, worker: PlayedWorker
) -> None:
    first, second, third = (submit(seed=seed)["id"] for seed in range(3))

    def queue(job: str) -> Any:
        found = client.get(f"/jobs/{job}").json()["queue"]
        return found and {name: found[name] for name in ("position", "workers")}

    assert [queue(job) for job in (first, second, third)] == [{"position": n, "workers": 0} for n in (1, 2, 3)]
    beats(sessions)
    claim = worker.claim(first)
    assert (queue(first), queue(second)) == (None, {"position": 1, "workers": 1})
    worker.succeed(worker.claim(third))  # it has begun, so what is left of it goes before a job that has not
    assert queue(third) == {"position": 1, "workers": 1}
    assert queue(second) == {"position": 2, "workers": 1}
    worker.succeed(claim)
    assert [queue(job)["position"] for job in (first, third, second)] == [1, 2, 3]
    worker.finish(first)
    assert queue(first) is None


def test_a_higher_priority_stands_before_and_callers_take_turns(
    client: TestClient, sessions: SessionFactory, submit: Submit
) -> None:
    jobs = [submit(seed=seed)["id"] for seed in range(4)]
    urgent = submit(priority=5)["id"]
    with unit_of_work(sessions) as session:
        session.execute(text("UPDATE jobs SET caller = 'another' WHERE id IN (:a, :b)"), {"a": jobs[2], "b": jobs[3]})

    def position(job: str) -> int:
        found: int = client.get(f"/jobs/{job}").json()["queue"]["position"]
        return found

    assert position(urgent) == 1
    # after it two callers with two jobs each: the second of each comes after all others at the latest
    assert [position(job) for job in jobs] == [3, 5, 3, 5]


def test_the_pages_say_so_too(client: TestClient, sessions: SessionFactory, submit: Submit) -> None:
    assert "No worker is up" in client.get("/ui/workers").text
    job = submit()["id"]
    assert "No worker is ready for it yet: it begins when one is." in client.get(f"/ui/jobs/{job}").text
    beats(sessions)
    page = client.get("/ui/workers").text
    assert "host-1:7" in page
    assert "a processor" in page
    assert "It is the next in the queue; 1 worker is up." in client.get(f"/ui/jobs/{job}/live").text
    rows = client.get("/ui/workers?fragment=true").text
    assert "host-1:7" in rows
    assert "<html" not in rows


@pytest.mark.parametrize(("memory", "fit"), [(8_000_000_000, 1), (10_000_000, 0)])
def test_an_estimate_says_whom_it_fits(
    client: TestClient, sessions: SessionFactory, model_root: Path, memory: int, fit: int
) -> None:
    checkpoint(model_root, config=SMOLLM2_CONFIG)

    def told() -> dict[str, Any]:
        body: dict[str, Any] = client.post("/estimates", json=local("model", blocks=6)).json()
        return body

    assert told()["workers"] == {"up": 0, "fit": 0}
    beats(sessions, stage_memory=memory)
    found = told()
    assert (found["workers"], found["device"]["name"]) == ({"up": 1, "fit": fit}, "a processor")


def test_an_estimate_is_told_for_a_worker_that_is_up(
    client: TestClient, sessions: SessionFactory, model_root: Path
) -> None:
    checkpoint(model_root, config=SMOLLM2_CONFIG)
    beats(sessions, **GPU)
    found = client.post("/estimates", json=local("model", blocks=6)).json()
    assert (found["device"]["kind"], found["dtype"]) == ("cuda", "bfloat16")
    assert found["workers"] == {"up": 1, "fit": 1}
