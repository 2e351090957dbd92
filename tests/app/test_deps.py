"""An operation as a transaction: committed before it is answered, and as many at a time as there are connections."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.testclient import TestClient

from app.db.threads import POOL_SIZE
from app.deps import WorkDep, dispose_pool, transaction
from app.settings import Settings
from secateur.contract.errors import Conflict

ADD = text("INSERT INTO job_counts (state, change) VALUES ('queued', 41)")
COUNT = text("SELECT count(*) FROM job_counts WHERE change = 41")


@pytest.fixture
def app(make_settings: Callable[..., Settings]) -> Iterator[FastAPI]:
    app = FastAPI()
    app.state.settings = make_settings()
    yield app
    dispose_pool(app.state.settings)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_what_an_operation_did_is_there_when_it_is_answered(app: FastAPI, client: TestClient) -> None:
    @app.post("/add")
    @transaction
    def add(work: WorkDep, fail: bool = False) -> dict[str, bool]:
        """Adds one."""
        work.session.execute(ADD)
        if fail:
            raise Conflict("no")
        return {"added": True}

    @app.get("/count")
    @transaction
    def count(work: WorkDep) -> int:
        return int(work.session.scalar(COUNT) or 0)

    before = client.get("/count").json()
    assert client.post("/add").json() == {"added": True}
    assert client.get("/count").json() == before + 1
    assert client.post("/add?fail=true").status_code == 500  # nothing handles errors here
    assert client.get("/count").json() == before + 1
    described = app.openapi()["paths"]["/add"]["post"]
    assert described["description"] == "Adds one."
    assert [parameter["name"] for parameter in described["parameters"]] == ["fail"]


def test_no_more_of_them_run_than_there_are_connections(app: FastAPI, client: TestClient) -> None:
    """And what waits for its turn holds nothing that others need."""
    running: list[int] = []
    full, go_on = threading.Barrier(POOL_SIZE + 1), threading.Event()

    @app.get("/wait")
    @transaction
    def wait(work: WorkDep) -> None:
        running.append(1)
        if not go_on.is_set():
            full.wait(60)
            assert go_on.wait(60)

    @app.get("/healthy")
    def healthy() -> int:
        return len(running)

    def ask(_: int) -> int:
        return client.get("/wait").status_code

    with ThreadPoolExecutor(4 * POOL_SIZE) as callers:
        answers = callers.map(ask, range(4 * POOL_SIZE))
        full.wait(60)
        assert client.get("/healthy").json() == POOL_SIZE
        go_on.set()
        assert set(answers) == {200}
    assert len(running) == 4 * POOL_SIZE
