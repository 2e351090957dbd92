"""The stream of a sweep, on a real uvicorn and a real LISTEN connection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from app.services.event_hub import EventHub
from tests.fixtures.live import serving
from tests.fixtures.played_worker import PlayedWorker


@pytest.fixture
def live(application: FastAPI) -> Iterator[httpx.Client]:
    application.state.ping_seconds = 0.3
    with serving(application) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
def sweep(live: httpx.Client, spec: dict[str, Any]) -> dict[str, Any]:
    body = {"spec": {**spec, "pruning": {"kind": "depth"}}, "grid": {"pruning.blocks": [1, 2]}}
    made: dict[str, Any] = live.post("/sweeps", json=body).json()
    return made


def messages(client: httpx.Client, sweep: dict[str, Any]) -> Iterator[dict[str, Any] | str]:
    """What is told, and comments as text."""
    with client.stream("GET", f"/sweeps/{sweep['id']}/events") as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("event:"):
                assert line == "event: sweep"
            elif line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))
            elif line.startswith(":"):
                yield line


def told(stream: Iterator[dict[str, Any] | str]) -> dict[str, Any]:
    """The next message that is no comment."""
    return next(message for message in stream if isinstance(message, dict))


def test_all_points_first_and_then_those_that_change(
    live: httpx.Client, sweep: dict[str, Any], worker: PlayedWorker
) -> None:
    stream = messages(live, sweep)
    first = told(stream)
    assert (first["state"], first["points"]) == ("queued", sweep["points"])
    assert isinstance(next(stream), str)  # it is kept alive
    claim = worker.claim(sweep["points"][1]["job_id"])
    change = told(stream)
    assert (change["state"], change["counts"]["running"]) == ("running", 1)
    assert [(point["place"], point["running"]) for point in change["points"]] == [(1, ["check"])]
    worker.succeed(claim)
    for point in sweep["points"]:
        worker.finish(point["job_id"])
    *_, last = (message for message in stream if isinstance(message, dict))  # which ends by itself
    assert (last["state"], last["counts"]["succeeded"]) == ("succeeded", 2)
    assert last["finished_at"] is not None


def test_of_a_sweep_that_is_over(live: httpx.Client, sweep: dict[str, Any]) -> None:
    live.post(f"/sweeps/{sweep['id']}/cancel")
    (only,) = messages(live, sweep)
    assert isinstance(only, dict)
    assert (only["state"], len(only["points"])) == ("cancelled", 2)


def test_no_such_sweep(live: httpx.Client) -> None:
    assert live.get(f"/sweeps/{uuid4()}/events").status_code == 404


def test_where_too_many_streams_are_open_it_ends_behind_what_is_now(
    application: FastAPI, live: httpx.Client, sweep: dict[str, Any]
) -> None:
    application.state.event_hub = EventHub(application.state.settings.database_url, most=0)
    (only,) = messages(live, sweep)
    assert isinstance(only, dict)
    assert only["state"] == "queued"
