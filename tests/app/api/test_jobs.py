"""Submitting, listing, reading, cancelling, retrying and deleting jobs over HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
import redis
from fastapi import FastAPI
from sqlalchemy import text
from starlette.testclient import TestClient

from app.broker.messages import QUEUE
from app.db.session import SessionFactory, unit_of_work
from app.db.tables.jobs import Job
from app.deps import sender_for
from secateur.contract.errors import FieldError, InvalidInput
from secateur.schemas.jobs import Job as JobBody
from tests.fixtures.played_worker import PlayedWorker

Submit = Callable[..., dict[str, Any]]


def messages(client: TestClient, redis_url: str) -> int:
    """How many wait in the broker, once all are sent."""
    app = cast(FastAPI, client.app)
    assert sender_for(app.state.settings).flush(seconds=30)
    with redis.Redis.from_url(redis_url) as broker:
        return int(broker.llen(QUEUE))


def test_a_submission_is_accepted_stored_and_sent(
    client: TestClient, spec: dict[str, Any], sessions: SessionFactory, redis_url: str
) -> None:
    response = client.post("/jobs", json={**spec, "labels": {"commit": "abc123"}})
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert UUID(job["id"]).version == 7
    assert job["state"] == "queued"
    assert job["verdict"] == "none"
    assert job["labels"] == {"commit": "abc123"}
    assert [stage["key"] for stage in job["stages"]] == ["check", "score", "prune", "benchmark", "report"]
    assert job["spec"]["scoring"]["criterion"] == "perplexity"  # the default is filled in
    assert job["created_at"].endswith("Z")
    queue = {"position": 1, "workers": 0, "expected_start": None, "expected_end": None}
    assert client.get(response.headers["location"]).json() == {**job, "queue": queue}
    with unit_of_work(sessions) as session:
        assert session.get_one(Job, UUID(job["id"])).state.value == "queued"
    assert messages(client, redis_url) == 1


def test_a_broker_that_is_down_does_not_refuse_a_job(make_settings: Callable[..., Any], spec: dict[str, Any]) -> None:
    from app.main import create_app

    with TestClient(create_app(make_settings(redis_url="redis://127.0.0.1:1/0")), base_url="http://localhost") as api:
        response = api.post("/jobs", json=spec)
        assert response.status_code == 202
        assert api.get(response.headers["location"]).json()["state"] == "queued"


def test_the_same_key_and_body_replay_the_first_answer(
    client: TestClient, spec: dict[str, Any], worker: PlayedWorker, redis_url: str
) -> None:
    first = client.post("/jobs", json=spec, headers={"Idempotency-Key": "run-7"})
    worker.finish(first.json()["id"])
    reordered = {**dict(reversed(spec.items())), "seed": 0}  # another order, and a default written out
    again = client.post("/jobs", json=reordered, headers={"Idempotency-Key": "run-7"})
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(client.get("/jobs").json()["data"]) == 1
    assert messages(client, redis_url) == 1


def test_the_same_key_with_another_body_is_refused(client: TestClient, spec: dict[str, Any]) -> None:
    client.post("/jobs", json=spec, headers={"Idempotency-Key": "run-7"})
    response = client.post("/jobs", json={**spec, "seed": 1}, headers={"Idempotency-Key": "run-7"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["parameter"] == "header Idempotency-Key"
    assert len(client.get("/jobs").json()["data"]) == 1


def test_a_refused_body_does_not_use_up_its_key(client: TestClient, spec: dict[str, Any]) -> None:
    key = {"Idempotency-Key": "run-7"}
    assert client.post("/jobs", json={**spec, "seed": -1}, headers=key).status_code == 422
    assert client.post("/jobs", json=spec, headers=key).status_code == 202


def test_keys_belong_to_their_caller(make_settings: Callable[..., Any], spec: dict[str, Any]) -> None:
    from app.main import create_app

    with TestClient(create_app(make_settings(api_keys="one,two")), base_url="http://localhost") as api:
        ids = [
            api.post("/jobs", json=spec, headers={"Idempotency-Key": "k", "Authorization": f"Bearer {key}"}).json()[
                "id"
            ]
            for key in ("one", "two", "one")
        ]
    assert ids[0] == ids[2] != ids[1]


def test_fifty_submissions_at_once_with_one_key_make_one_job(
    client: TestClient, spec: dict[str, Any], redis_url: str
) -> None:
    def post(_: int) -> tuple[int, str]:
        response = client.post("/jobs", json=spec, headers={"Idempotency-Key": "at-once"})
        return response.status_code, response.text

    with ThreadPoolExecutor(50) as pool:
        answers = set(pool.map(post, range(50)))
    assert len(answers) == 1  # one status and one body, for all of them
    assert next(iter(answers))[0] == 202
    assert len(client.get("/jobs").json()["data"]) == 1
    assert messages(client, redis_url) == 1


@pytest.mark.parametrize(("header", "seconds"), [("90", 90), ("90s", 90), ("1h30m", 5400), ("2d", 172800)])
def test_cancel_after_sets_a_deadline(client: TestClient, spec: dict[str, Any], header: str, seconds: int) -> None:
    from datetime import datetime

    job = client.post("/jobs", json=spec, headers={"Cancel-After": header}).json()
    allowed = datetime.fromisoformat(job["deadline_at"]) - datetime.fromisoformat(job["created_at"])
    assert seconds - 10 <= allowed.total_seconds() <= seconds + 10


@pytest.mark.parametrize("header", ["soon", "-5", "0", "0s", "31d", "1.5h", "", "5m1h", "9" * 30])
def test_a_bad_cancel_after_is_named(client: TestClient, spec: dict[str, Any], header: str) -> None:
    response = client.post("/jobs", json=spec, headers={"Cancel-After": header})
    assert response.status_code == 422
    error = response.json()["errors"][0]
    assert (error["parameter"], error["pointer"]) == ("header Cancel-After", "")


def test_pages_are_newest_first_and_stay_right_while_jobs_arrive(client: TestClient, submit: Submit) -> None:
    made = [submit()["id"] for _ in range(5)]
    first = client.get("/jobs", params={"limit": 2})
    assert first.json()["has_more"] is True
    submit()  # comes before the first page, and must not move the next ones
    seen = [job["id"] for job in first.json()["data"]]
    link: str | None = first.headers["link"]
    while link:
        page = client.get(re.fullmatch(r'<(.*)>; rel="next"', link).group(1))  # type: ignore[union-attr]
        seen += [job["id"] for job in page.json()["data"]]
        link = page.headers.get("link")
    assert seen == made[::-1]
    assert page.json() | {"data": []} == {"data": [], "has_more": False, "next_cursor": None}
    assert "spec" not in first.json()["data"][0]


def test_lists_are_filtered(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    done = submit(labels={"team": "a", "branch": "main"})["id"]
    worker.finish(done)
    waiting = submit(labels={"team": "a"}, model={"source": "hub", "id": "other/model"})["id"]

    def ids(query: str) -> list[str]:
        return [job["id"] for job in client.get(f"/jobs?{query}").json()["data"]]

    assert ids("status=succeeded") == [done]
    assert ids("status=queued") == [waiting]
    assert ids("verdict=passed") == [done]
    assert ids("model=other/model") == [waiting]
    assert ids("label=team=a") == [waiting, done]
    assert ids("label=team=a&label=branch=main") == [done]
    assert ids("label=team=b") == []
    assert ids(f"id={done}") == ids(f"id={done[-8:]}") == [done]
    assert ids(f"id={done[:8]}&status=queued") == ids(f"id={waiting[:8]}&status=queued") == [waiting]
    assert ids("status=queued&verdict=passed") == []


def test_the_next_page_keeps_its_filters(client: TestClient, submit: Submit) -> None:
    wanted = [submit(labels={"k": "a b&c"})["id"] for _ in range(3)]
    submit()
    page = client.get("/jobs", params={"limit": 2, "label": "k=a b&c", "status": "queued"})
    rest = client.get(page.headers["link"].split(">")[0][1:])
    assert [job["id"] for job in page.json()["data"] + rest.json()["data"]] == wanted[::-1]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "query limit"),
        ("limit=101", "query limit"),
        ("status=done", "query status"),
        ("verdict=maybe", "query verdict"),
        ("cursor=nonsense", "query cursor"),
        ("cursor=%00", "query cursor"),
        ("label=bare", "query label"),
        ("label=a%00b=c", "query label"),
        ("model=%00", "query model"),
        ("id=abc", "query id"),
        ("id=abcx", "query id"),
        ("id=abcd--ef", "query id"),
        (f"id={'0' * 33}", "query id"),
    ],
)
def test_bad_queries_are_named(client: TestClient, query: str, parameter: str) -> None:
    response = client.get(f"/jobs?{query}")
    assert response.status_code == 422
    assert [error["parameter"] for error in response.json()["errors"]] == [parameter]


def test_a_queued_job_is_cancelled_at_once_and_again(client: TestClient, submit: Submit) -> None:
    job_id = submit()["id"]
    answers = [client.post(f"/jobs/{job_id}/cancel") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].json() == answers[2].json()
    assert answers[0].json()["state"] == "cancelled"
    assert answers[0].json()["cancel_requested_at"] is not None
    assert {stage["state"] for stage in answers[0].json()["stages"]} == {"cancelled"}


def test_a_running_job_is_cancelling_until_its_worker_lets_go(
    client: TestClient, submit: Submit, worker: PlayedWorker
) -> None:
    job_id = submit()["id"]
    claim = worker.claim(job_id)
    assert client.post(f"/jobs/{job_id}/cancel").json()["state"] == "cancelling"
    assert client.post(f"/jobs/{job_id}/cancel").json()["state"] == "cancelling"
    worker.stop(claim)
    assert client.get(f"/jobs/{job_id}").json()["state"] == "cancelled"


def test_cancelling_what_is_over_changes_nothing(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    job_id = submit()["id"]
    worker.finish(job_id)
    before = client.get(f"/jobs/{job_id}").json()
    assert client.post(f"/jobs/{job_id}/cancel").json() == before
    assert before["state"] == "succeeded"


def test_a_retry_keeps_what_succeeded(client: TestClient, submit: Submit, worker: PlayedWorker, redis_url: str) -> None:
    job_id = submit()["id"]
    claim = worker.reach(job_id, "prune")
    problem = {"type": "about:blank", "title": "Stage failed", "status": 500, "detail": "out of memory"}
    worker.fail(claim, problem)
    failed = client.get(f"/jobs/{job_id}").json()
    assert failed["problem"] | problem == failed["problem"]
    assert failed["problem"]["stage"] == "prune"
    before = messages(client, redis_url)
    response = client.post(f"/jobs/{job_id}/retry")
    job = response.json()
    assert (response.status_code, job["state"], job["problem"]) == (202, "queued", None)
    assert [stage["state"] for stage in job["stages"]] == ["succeeded", "succeeded", "queued", "queued", "queued"]
    assert messages(client, redis_url) == before + 1
    worker.finish(job_id)
    assert client.get(f"/jobs/{job_id}").json()["state"] == "succeeded"


def test_a_job_has_one_form_wherever_it_is_read(
    client: TestClient, submit: Submit, worker: PlayedWorker, sessions: SessionFactory
) -> None:
    """Times that have no fraction of a second, and a problem that does not use all that one can have."""
    job = submit()["id"]
    refused = InvalidInput("no", errors=[FieldError("/model/path", "no", "a", "b"), FieldError("", "no", line=3)])
    worker.fail(worker.reach(job, "score"), refused.to_problem())
    with unit_of_work(sessions) as session:
        session.execute(text("UPDATE jobs SET created_at = date_trunc('second', created_at)"))
        session.execute(text("UPDATE stages SET started_at = date_trunc('second', started_at)"))
    read = client.get(f"/jobs/{job}").json()
    summary = {name: value for name, value in read.items() if name not in ("spec", "queue", "asked_of")}
    assert summary == client.get("/jobs").json()["data"][0]
    assert client.post(f"/jobs/{job}/cancel").json() == read  # it is over, and nothing changes

    assert set(read) == set(JobBody.model_fields)
    problem = read["problem"]
    assert (problem["stage"], problem["instance"], problem["request_id"]) == ("score", None, None)
    assert problem["errors"] == [
        {"pointer": "/model/path", "detail": "no", "value": "a", "expected": "b", "parameter": None, "line": None},
        {"pointer": "", "detail": "no", "value": None, "expected": None, "parameter": None, "line": 3},
    ]
    assert [stage["problem"] for stage in read["stages"]] == [None, problem, None, None, None]
    assert read["created_at"].endswith(".000000Z")
    with unit_of_work(sessions) as session:
        assert JobBody.model_validate(read) == JobBody.model_validate(session.get_one(Job, UUID(job)))

    again = client.post(f"/jobs/{job}/retry")
    assert (again.status_code, again.json()) == (202, client.get(f"/jobs/{job}").json())
    assert (again.json()["state"], again.json()["problem"]) == ("queued", None)


def test_only_a_failed_or_cancelled_job_is_retried(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    job_id = submit()["id"]
    assert client.post(f"/jobs/{job_id}/retry").status_code == 409
    worker.finish(job_id)
    response = client.post(f"/jobs/{job_id}/retry")
    assert response.status_code == 409
    assert "succeeded" in response.json()["detail"]


def test_a_job_that_is_over_is_deleted_with_its_files(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    job_id = submit()["id"]
    assert client.delete(f"/jobs/{job_id}").status_code == 409
    worker.finish(job_id, {"prune": {"checkpoint/config.json": b"{}"}})
    artifact = f"/jobs/{job_id}/artifacts/prune/checkpoint/config.json"
    assert client.get(artifact).status_code == 200
    response = client.delete(f"/jobs/{job_id}")
    assert (response.status_code, response.content) == (204, b"")
    paths = ("", "/events", "/logs", "/scores", "/report", "/artifacts", "/artifacts/prune/checkpoint/config.json")
    for path in paths:
        assert client.get(f"/jobs/{job_id}{path}").status_code == 404, path
    assert client.delete(f"/jobs/{job_id}").status_code == 404


def test_a_job_that_does_not_exist_is_not_found_everywhere(client: TestClient) -> None:
    path = f"/jobs/{uuid4()}"
    for method, suffix in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("GET", "/events"),
        ("GET", "/logs"),
        ("GET", "/scores"),
        ("GET", "/report"),
        ("GET", "/report.html"),
        ("GET", "/artifacts"),
        ("GET", "/artifacts/a/b"),
    ]:
        response = client.request(method, path + suffix)
        assert response.status_code == 404, suffix
        assert response.json()["type"].endswith("/not-found")
        assert response.json()["instance"] == path + suffix
