"""`GET /jobs/{id}/compare/{other}`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from starlette.testclient import TestClient

from secateur.contract.comparison import JobComparison
from tests.fixtures.played_worker import PlayedWorker

Submit = Callable[..., dict[str, Any]]


def test_two_jobs_are_compared(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    one, two = submit()["id"], submit()["id"]
    worker.finish(one)
    worker.finish(two)
    response = client.get(f"/jobs/{one}/compare/{two}")
    assert response.status_code == 200, response.text
    found = JobComparison.model_validate(response.json())
    assert {figure.metric for figure in found.figures} >= {"parameters", "speedup"}
    assert found.spec == []


def test_a_job_is_not_compared_with_itself(client: TestClient, submit: Submit) -> None:
    job = submit()["id"]
    response = client.get(f"/jobs/{job}/compare/{job}")
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert (error["parameter"], error["value"], error["expected"]) == ("path other_id", job, "the id of another job")


def test_a_job_that_does_not_exist_is_not_found(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    job, none = submit()["id"], uuid4()
    worker.finish(job)
    for path in (f"/jobs/{job}/compare/{none}", f"/jobs/{none}/compare/{job}"):
        response = client.get(path)
        assert (response.status_code, response.json()["detail"]) == (404, f"there is no job {none}")


def test_only_jobs_that_have_succeeded_are_compared(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    done, queued, failed, cancelled = (submit()["id"] for _ in range(4))
    worker.finish(done)
    worker.fail(worker.claim(failed), {"title": "Stage failed", "status": 500, "detail": "no"})
    client.post(f"/jobs/{cancelled}/cancel")
    for job, state in ((queued, "queued"), (failed, "failed"), (cancelled, "cancelled")):
        for path in (f"/jobs/{done}/compare/{job}", f"/jobs/{job}/compare/{done}"):
            response = client.get(path)
            assert response.status_code == 409
            assert response.json()["detail"] == f"job {job} is {state}; only jobs that have succeeded can be compared"


def test_an_id_that_is_none_is_named(client: TestClient, submit: Submit) -> None:
    response = client.get(f"/jobs/{submit()['id']}/compare/7")
    assert response.status_code == 422
    assert [error["parameter"] for error in response.json()["errors"]] == ["path other_id"]
