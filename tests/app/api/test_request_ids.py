"""The id of the request that made a job is on the job, its events and its log; a retry's or cancel's on its event."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from tests.fixtures.played_worker import PlayedWorker

PROBLEM = {"type": "about:blank", "title": "Stage failed", "status": 500, "detail": "out of memory"}


def by(request_id: str) -> dict[str, str]:
    return {"x-request-id": request_id}


def events(client: TestClient, job_id: str) -> list[tuple[str, str | None]]:
    """What happened, and for which request."""
    data = client.get(f"/jobs/{job_id}/events").json()["data"]
    return [(event["data"].get("state", event["type"]), event["request_id"]) for event in data]


def test_a_job_and_all_that_its_stages_tell_have_the_id(
    client: TestClient, spec: dict[str, Any], worker: PlayedWorker
) -> None:
    job = client.post("/jobs", json=spec, headers=by("ci/1")).json()
    assert job["request_id"] == "ci/1"
    claim = worker.claim(job["id"])
    assert claim.origin.request_id == "ci/1"
    worker.log(claim, "30 blocks")
    assert client.get(f"/jobs/{job['id']}").json()["request_id"] == "ci/1"
    assert client.get("/jobs").json()["data"][0]["request_id"] == "ci/1"
    assert [line["request_id"] for line in client.get(f"/jobs/{job['id']}/logs").json()["data"]] == ["ci/1"]
    assert {request for _, request in events(client, job["id"])} == {"ci/1"}


def test_one_that_is_sent_again_gets_the_first_id(client: TestClient, spec: dict[str, Any]) -> None:
    key = {"idempotency-key": "k"}
    first = client.post("/jobs", json=spec, headers={**by("ci/1"), **key})
    again = client.post("/jobs", json=spec, headers={**by("ci/2"), **key})
    assert again.text == first.text
    assert again.headers["x-request-id"] == "ci/2"


def test_a_retry_and_a_cancel_have_their_own(client: TestClient, spec: dict[str, Any], worker: PlayedWorker) -> None:
    job_id = client.post("/jobs", json=spec, headers=by("ci/1")).json()["id"]
    worker.fail(worker.reach(job_id, "check"), PROBLEM)
    before = len(events(client, job_id))
    assert client.post(f"/jobs/{job_id}/retry", headers=by("ci/2")).json()["request_id"] == "ci/1"
    claim = worker.claim(job_id)
    client.post(f"/jobs/{job_id}/cancel", headers=by("ci/3"))
    worker.stop(claim)
    happened = events(client, job_id)[before:]
    retried, claimed, cancelled = happened[:6], happened[6:8], happened[8:]
    assert [*dict.fromkeys(retried)] == [("queued", "ci/2")]
    assert claimed == [("running", "ci/1")] * 2
    assert {request for state, request in cancelled if state == "cancelling"} == {"ci/3"}
    assert cancelled[-2:] == [("cancelled", "ci/1")] * 2  # the worker's, when the process is gone
