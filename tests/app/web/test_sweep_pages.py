"""The dashboard's pages of sweeps as they are rendered."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from tests.fixtures.played_worker import PlayedWorker

PROBLEM = {"type": "about:blank", "title": "Stage failed", "status": 500, "detail": "it <b>broke</b>"}


@pytest.fixture
def sweep(client: TestClient, spec: dict[str, Any]) -> dict[str, Any]:
    body = {
        "spec": {**spec, "pruning": {"kind": "depth"}},
        "grid": {"pruning.blocks": [1, 2, 3]},
        "gates": {"min_speedup": 1.2},
        "labels": {"branch": "<main>"},
    }
    made: dict[str, Any] = client.post("/sweeps", json=body).json()
    return made


def test_the_list(client: TestClient, sweep: dict[str, Any], worker: PlayedWorker) -> None:
    worker.finish(sweep["points"][0]["job_id"])
    page = client.get("/ui/sweeps").text
    assert f'href="/ui/sweeps/{sweep["id"]}"' in page
    assert "2 queued, 1 succeeded" in page
    assert "pruning.blocks" in page
    assert "branch=&lt;main&gt;" in page
    assert 'value="0.333"' in page
    assert '<a href="/ui/sweeps" aria-current="page">' in page


def test_an_empty_list_says_what_to_do(client: TestClient) -> None:
    assert "No sweep yet" in client.get("/ui/sweeps").text


def test_a_sweep_that_runs_and_is_over(client: TestClient, sweep: dict[str, Any], worker: PlayedWorker) -> None:
    path = f"/ui/sweeps/{sweep['id']}"
    first, second, third = (point["job_id"] for point in sweep["points"])
    early = client.get(path).text
    assert "Read the report" not in early
    assert 'data-action="cancel"' in early
    assert early.count('data-key="') == 3
    worker.finish(first)
    claim = worker.reach(second, "score")
    live = client.get(f"{path}/live").text
    assert "<html" not in live
    assert "<small>score</small>" in live
    assert "<svg" in live
    assert "1.25×" in live
    worker.succeed(claim)
    worker.finish(second)
    worker.fail(worker.claim(third), PROBLEM)
    page = client.get(path).text
    assert "Point 0 passes all gates, and is the best that does." in page
    assert "it &lt;b&gt;broke&lt;/b&gt;" in page
    assert 'data-action="retry"' in page
    assert 'data-action="delete"' in page
    assert re.search(r'<tr data-key="[^"]+" data-place="0" class="chosen">', page)
    for form in ("html", "md", "csv", "json"):
        assert f'href="/sweeps/{sweep["id"]}/report.{form}"' in page
    job = client.get(f"/ui/jobs/{second}").text
    assert f'point 1 of <a href="{path}">a sweep</a>' in job
    assert 'data-action="delete"' not in job  # which only the sweep as a whole is


def test_no_such_sweep(client: TestClient) -> None:
    for path in (f"/ui/sweeps/{uuid4()}", "/ui/sweeps/7", f"/ui/sweeps/{uuid4()}/live"):
        page = client.get(path)
        assert page.status_code == 404
        assert "No such sweep" in page.text
