"""A recovery that begins with what an earlier job recovered: what of it is seen when it is submitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from tests.fixtures.played_service import RESULTS
from tests.fixtures.played_worker import PlayedWorker

Submit = Callable[..., dict[str, Any]]
DROPPED = RESULTS["prune"]["dropped"]


@pytest.fixture
def earlier(submit: Submit, worker: PlayedWorker) -> str:
    """A job that has recovered the model."""
    job = submit(recovery={"kind": "distill"})
    worker.finish(job["id"])
    return str(job["id"])


def recovery(job_id: object, **more: Any) -> dict[str, Any]:
    return {"kind": "distill", "warm_start": str(job_id), **more}


@pytest.mark.parametrize("kind", ["distill", "lora", "continued"])
def test_it_may_begin_with_that_of_the_same_blocks(submit: Submit, earlier: str, kind: str) -> None:
    """Blocks that a criterion chooses are compared when they are known."""
    for pruning in ({"kind": "depth", "blocks": 3}, {"kind": "depth", "drop": DROPPED[::-1]}):
        job = submit(recovery=recovery(earlier, kind=kind), pruning=pruning)
        assert job["spec"]["recovery"]["warm_start"] == earlier


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pruning": {"kind": "depth", "drop": [*DROPPED, 0]}}, "is without"),
        ({"pruning": {"kind": "flap", "ratio": 0.2}}, "pruned by depth, and this one by flap"),
        ({"pruning": {"kind": "sub_block", "units": 2}}, "pruned by depth, and this one by sub_block"),
        ({"model": {"source": "hub", "id": "org/other"}}, "and this one has org/other"),
    ],
    ids=["other blocks", "width", "halves", "another model"],
)
def test_what_cannot_fit_is_refused(
    client: TestClient, spec: dict[str, Any], earlier: str, changes: dict[str, Any], words: str
) -> None:
    response = client.post("/jobs", json={**spec, "recovery": recovery(earlier), **changes})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert (error["pointer"], error["value"]) == ("/recovery/warm_start", earlier)
    assert words in error["detail"]
    assert error["expected"]


def test_a_job_that_is_not_there_or_has_recovered_nothing(
    client: TestClient, spec: dict[str, Any], submit: Submit, worker: PlayedWorker
) -> None:
    missing, plain, waiting = uuid4(), submit(recovery={"kind": "none"})["id"], submit(recovery={"kind": "lora"})["id"]
    worker.finish(plain)
    for job_id, words in ((missing, "no job"), (plain, "no recovered model"), (waiting, "no recovered model")):
        response = client.post("/jobs", json={**spec, "recovery": recovery(job_id)})
        assert response.status_code == 422
        (error,) = response.json()["errors"]
        assert error["pointer"] == "/recovery/warm_start"
        assert words in error["detail"]


def test_a_recovered_model_is_not_healed(client: TestClient, spec: dict[str, Any], earlier: str) -> None:
    response = client.post("/jobs", json={**spec, "recovery": recovery(earlier, heal=True)})
    assert [error["pointer"] for error in response.json()["errors"]] == ["/recovery/heal"]
