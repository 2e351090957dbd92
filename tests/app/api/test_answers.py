"""Questions to the models of a finished job: small jobs of their own, which leave the asked one as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from app.api import answers
from app.db import claims, events, jobs, stages
from app.db.session import SessionFactory, unit_of_work
from app.main import create_app
from app.services import answers as service
from app.settings import Settings
from secateur.contract.jobs import State
from tests.fixtures.played_worker import PlayedWorker
from workers.supervision import assignment

Submit = Callable[..., dict[str, Any]]
PROMPT = {"prompt": "Why is the sky blue?"}


@pytest.fixture
def job(submit: Submit, worker: PlayedWorker) -> str:
    """A job that is over, with a pruned model."""
    made: str = submit(labels={"branch": "main"})["id"]
    worker.finish(made, {"prune": {"checkpoint/model.safetensors": b"weights"}})
    return made


def ask(client: TestClient, job: str, **changes: Any) -> Any:
    return client.post(f"/jobs/{job}/answers", json={**PROMPT, **changes})


def test_a_question_is_answered_and_the_job_stays_as_it_is(client: TestClient, job: str, worker: PlayedWorker) -> None:
    before, history = client.get(f"/jobs/{job}").json(), client.get(f"/jobs/{job}/events?limit=1000").json()
    response = ask(client, job, max_tokens=64)
    assert response.status_code == 202, response.text
    asked = response.json()
    assert response.headers["location"] == f"/jobs/{job}/answers/{asked['id']}"
    assert (asked["asked_of"], asked["state"], asked["answers"]) == (job, "queued", [])
    assert asked["question"]["variants"] == ["original", "pruned"]  # all that there are
    claim = worker.claim(asked["id"])
    assert (claim.key, claim.kind) == ("answer", "answer")
    piece = events.NewEvent("text", {"variant": "pruned", "text": "Air", "tokens": 1}, stage="answer", attempt=1)
    worker.tell(claim, piece)
    worker.succeed(claim)
    over = client.get(response.headers["location"]).json()
    assert (over["state"], over["answers"]) == ("succeeded", answers.EXAMPLE["answers"])
    assert client.get(f"/jobs/{job}/answers").json() == {"data": [over]}
    stream = client.get(f"/jobs/{asked['id']}/events", headers={"accept": "text/event-stream"}).text
    assert "event: text\n" in stream
    assert '"text":"Air"' in stream
    assert client.get(f"/jobs/{job}").json() == before
    assert client.get(f"/jobs/{job}/events?limit=1000").json() == history


def test_quantised_models_are_asked_where_they_are_named(
    client: TestClient, submit: Submit, worker: PlayedWorker
) -> None:
    figures = {
        "bytes": 9,
        "quantised_parameters": 8,
        "other_parameters": 1,
        "bits_per_weight": 8.5,
        "relative_error": 0.01,
    }
    made: list[dict[str, Any]] = [
        {"name": name, "kind": name, "options": {}, "path": f"{name}/checkpoint", "seconds": 1.0, **figures}
        for name in ("int8", "int4")
    ]
    worker.results = {**worker.results, "quantise": {"variants": made, "seconds": 2.0}}
    job = submit(quantise=[{"kind": "int8"}, {"kind": "int4"}])["id"]
    worker.finish(job)
    assert ask(client, job).json()["question"]["variants"] == ["original", "pruned"]
    named = ask(client, job, variants=["pruned-int4", "original"])
    assert named.json()["question"]["variants"] == ["pruned-int4", "original"]
    (wrong,) = ask(client, job, variants=["recovered-int8"]).json()["errors"]
    assert wrong["expected"] == "one of original, pruned, pruned-int8, pruned-int4"
    page = client.get(f"/ui/jobs/{job}/playground").text
    assert 'value="pruned-int4" checked' in page  # as the question that waits has it
    assert 'value="pruned-int8">' in page
    assert 'data-variant="pruned-int8" hidden>' in page


def test_a_question_is_in_no_list_and_no_count_of_jobs(
    client: TestClient, job: str, sessions: SessionFactory, worker: PlayedWorker
) -> None:
    asked = ask(client, job).json()["id"]
    page = client.get("/jobs").json()["data"]
    assert [one["id"] for one in page] == [job]
    assert client.get("/jobs", params={"label": "branch=main"}).json()["data"] == page
    assert client.get("/jobs", params={"id": asked[-8:]}).json()["data"] == []
    with unit_of_work(sessions) as session:
        assert jobs.count_by_state(session)[State.SUCCEEDED] == 1
        assert sum(jobs.count_by_state(session).values()) == 1
    worker.finish(asked)
    with unit_of_work(sessions) as session:
        assert sum(jobs.count_by_state(session).values()) == 1
    one = client.get(f"/jobs/{asked}").json()
    assert (one["asked_of"], one["labels"], one["verdict"]) == (job, {}, "none")
    assert client.get(f"/jobs/{job}").json()["asked_of"] is None


def test_the_stage_reads_what_the_asked_job_has_left(
    client: TestClient, job: str, worker: PlayedWorker, sessions: SessionFactory
) -> None:
    claim = worker.claim(ask(client, job, max_tokens=7).json()["id"])
    with unit_of_work(sessions) as session:
        given = assignment.load(session, claim)
    assert given is not None
    assert set(given.inputs) == {"check", "prune"}
    assert [file.path for file in given.inputs["prune"].files] == ["checkpoint/model.safetensors"]
    assert given.question is not None
    assert (given.question.prompt, given.question.max_tokens) == (PROMPT["prompt"], 7)


def test_a_question_goes_before_jobs_that_wait(
    client: TestClient, job: str, submit: Submit, sessions: SessionFactory
) -> None:
    submit()
    asked = ask(client, job).json()["id"]
    with unit_of_work(sessions) as session:
        found = stages.next_waiting(session)
        assert found is not None
        stage = stages.get(session, found)
        assert stage is not None
        assert str(stage.job_id) == asked


def test_few_wait_at_a_time_and_the_last_are_kept(
    client: TestClient, job: str, worker: PlayedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (ask(client, job).json()["id"] for _ in range(2))
    refused = ask(client, job)
    assert refused.status_code == 409
    assert "answering 2 questions already" in refused.json()["detail"]
    for one in (first, second):
        worker.finish(one)
    monkeypatch.setattr(service, "MOST_KEPT", 2)
    third = ask(client, job).json()["id"]
    assert [one["id"] for one in client.get(f"/jobs/{job}/answers").json()["data"]] == [third, second]
    assert client.get(f"/jobs/{first}").status_code == 404


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"prompt": ""}, "/prompt"),
        ({"prompt": " \n"}, "/prompt"),
        ({"prompt": "a\0"}, "/prompt"),
        ({"prompt": "a" * 8001}, "/prompt"),
        ({"max_tokens": 0}, "/max_tokens"),
        ({"max_tokens": 1025}, "/max_tokens"),
        ({"temperature": 2.5}, "/temperature"),
        ({"variants": []}, "/variants"),
        ({"variants": ["quantised"]}, "/variants/0"),
        ({"variants": ["pruned", "recovered"]}, "/variants/1"),  # which this job has not
        ({"tokens": 5}, "/tokens"),
    ],
)
def test_what_cannot_be_asked(client: TestClient, job: str, changes: dict[str, Any], pointer: str) -> None:
    response = ask(client, job, **changes)
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["pointer"] == pointer
    assert client.get(f"/jobs/{job}/answers").json() == {"data": []}


def test_who_cannot_be_asked(client: TestClient, job: str, submit: Submit) -> None:
    assert ask(client, str(uuid4())).status_code == 404
    running = submit()["id"]
    refused = ask(client, running)
    assert (refused.status_code, "is queued" in refused.json()["detail"]) == (409, True)
    asked = ask(client, job).json()["id"]
    assert ask(client, asked).status_code == 409  # a question itself
    assert client.get(f"/jobs/{job}/answers/{uuid4()}").status_code == 404
    assert client.get(f"/jobs/{running}/answers/{asked}").status_code == 404


def test_it_is_switched_off_by_a_setting(make_settings: Callable[..., Settings], job: str) -> None:
    with TestClient(create_app(make_settings(playground=False)), base_url="http://127.0.0.1:8000") as client:
        refused = ask(client, job)
        assert refused.status_code == 409
        assert "SECATEUR_PLAYGROUND" in refused.json()["detail"]
        page = client.get(f"/ui/jobs/{job}/playground")
        assert (page.status_code, "switched off" in page.text) == (409, True)
        assert "/playground" not in client.get(f"/ui/jobs/{job}").text


def test_a_question_is_cancelled_failed_and_tried_again_as_a_job_is(
    client: TestClient, job: str, worker: PlayedWorker
) -> None:
    asked = ask(client, job).json()["id"]
    assert client.get(f"/jobs/{asked}").json()["deadline_at"] is not None
    client.post(f"/jobs/{asked}/cancel")
    assert client.get(f"/jobs/{job}/answers/{asked}").json()["state"] == "cancelled"
    client.post(f"/jobs/{asked}/retry")
    worker.fail(worker.claim(asked), {"type": "x", "title": "Broke", "status": 500, "detail": "it broke"})
    failed = client.get(f"/jobs/{job}/answers/{asked}").json()
    assert (failed["state"], failed["problem"]["detail"]) == ("failed", "it broke")
    assert client.delete(f"/jobs/{asked}").status_code == 204
    assert client.get(f"/jobs/{job}/answers").json() == {"data": []}


def test_questions_go_with_the_job_that_was_asked(
    client: TestClient, job: str, worker: PlayedWorker, sessions: SessionFactory
) -> None:
    claim = worker.claim(ask(client, job).json()["id"])
    assert client.delete(f"/jobs/{job}").status_code == 204
    with unit_of_work(sessions) as session:
        assert assignment.load(session, claim) is None
    assert client.get(f"/jobs/{claim.job_id}").status_code == 404


def test_a_question_outlives_its_worker(
    client: TestClient, job: str, worker: PlayedWorker, sessions: SessionFactory
) -> None:
    asked = ask(client, job).json()["id"]
    with unit_of_work(sessions) as session:
        (stage_id,) = stages.waiting_ids(jobs.get(session, UUID(asked)))
        lost = claims.claim(session, stage_id, worker="lost", lease_seconds=-1.0)
    assert lost is not None
    with unit_of_work(sessions) as session:
        claims.rescue(session, stage_id, problem={"detail": "Its worker is gone."}, max_attempts=3)
    worker.finish(asked)
    with unit_of_work(sessions) as session:
        assert claims.succeed(session, lost, result={}, output="o", files=[]).state is None  # it comes too late
    over = client.get(f"/jobs/{job}/answers/{asked}").json()
    assert (over["state"], over["answers"]) == ("succeeded", answers.EXAMPLE["answers"])
