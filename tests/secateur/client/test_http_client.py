"""Requests of both clients: repeats, errors, pages."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from app.api import answers as example_answers
from app.api import example_results, workers
from app.api import example_sweeps as sweeps
from app.api.example_estimates import ESTIMATE
from app.api.example_specs import OTHER_JOB_ID
from app.api.example_sweeps import SWEEP_ID
from secateur.client.errors import (
    AccessDenied,
    Conflict,
    InvalidRequest,
    NotFound,
    RateLimited,
    ServiceFailed,
    UnexpectedAnswer,
    Unreachable,
)
from secateur.contract.results import Scores
from secateur.contract.spec import CompressionSpec
from secateur.contract.sweep import SweepSpec
from tests.fixtures.scripted_service import (
    JOB,
    NOW,
    SPEC,
    Fake,
    job,
    problem,
)

pytestmark = pytest.mark.usefixtures("runner")  # each test is run with both clients


def test_submit_sends_spec_and_key_and_repeats_itself() -> None:
    fake = Fake(post_jobs=[httpx.ConnectError("refused"), problem(503), httpx.Response(202, json=job("queued"))])
    with fake.client() as client:
        made = client.jobs.create(SPEC, cancel_after="2h")
    assert str(made.id) == JOB
    keys = {request.headers["idempotency-key"] for request in fake.requests}
    assert len(fake.requests) == 3
    assert len(keys) == 1
    assert fake.requests[-1].headers["cancel-after"] == "2h"
    assert json.loads(fake.requests[-1].content) == SPEC


@pytest.mark.parametrize(("retries", "sent"), [(0, 1), (1, 2), (5, 6)])
def test_the_caller_says_how_often_a_request_is_repeated(retries: int, sent: int) -> None:
    fake = Fake(get_job=[problem(503)])
    with fake.client() as client, pytest.raises(ServiceFailed):
        client.with_options(max_retries=retries).jobs.retrieve(JOB)
    assert len(fake.requests) == sent
    with fake.client() as client, pytest.raises(ServiceFailed):
        client.jobs.retrieve(JOB)
    assert len(fake.requests) == sent + 4  # the client itself is as it was


def test_the_caller_says_how_long_an_answer_may_take() -> None:
    fake = Fake(get_job=[httpx.Response(200, json=job())])
    with fake.client() as client:
        client.jobs.retrieve(JOB)
        hurried = client.with_options(timeout=2.5)
        hurried.jobs.retrieve(JOB)
        hurried.with_options(max_retries=1).jobs.retrieve(JOB)
    assert [request.extensions["timeout"]["read"] for request in fake.requests] == [30.0, 2.5, 2.5]


def test_scores() -> None:
    with Fake(get_scores=[httpx.Response(200, json=example_results.SCORES)]).client() as client:
        found = client.jobs.scores(JOB)
    assert found == Scores.model_validate(example_results.SCORES)


def test_a_question_sends_what_was_given_of_its_options() -> None:
    fake = Fake(post_answers=[httpx.Response(202, json=example_answers.EXAMPLE)])
    with fake.client() as client:
        client.answers.create(JOB, "Why?")
        client.answers.create(JOB, "Why?", max_tokens=8, temperature=0.0, chat=False, variants=["original"])
    first, second = (json.loads(request.content) for request in fake.requests)
    assert first == {"prompt": "Why?"}
    assert second == {"prompt": "Why?", "max_tokens": 8, "temperature": 0.0, "chat": False, "variants": ["original"]}


def test_an_estimate_is_asked_for_once() -> None:
    fake = Fake(post_estimates=[httpx.Response(200, json=ESTIMATE), httpx.ConnectError("refused")])
    with fake.client() as client:
        found = client.jobs.estimate(SPEC)
        with pytest.raises(Unreachable):
            client.jobs.estimate(CompressionSpec.model_validate(SPEC))
    assert found.model_dump(mode="json") == ESTIMATE
    assert json.loads(fake.requests[0].content) == SPEC
    assert len(fake.requests) == 2


def test_workers() -> None:
    with Fake(get_workers=[httpx.Response(200, json=workers.EXAMPLE)]).client() as client:
        (worker,) = client.workers.list()
    assert (worker.name, worker.state, worker.running[0].key) == ("gpu-3:4711", "up", "score")


def test_the_key_is_sent_as_bearer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_API_KEY", "k1")
    fake = Fake(get_job=[httpx.Response(200, json=job())])
    fake.client().jobs.retrieve(JOB)
    assert fake.requests[0].headers["authorization"] == "Bearer k1"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequest),
        (401, AccessDenied),
        (403, AccessDenied),
        (404, NotFound),
        (409, Conflict),
        (422, InvalidRequest),
        (500, ServiceFailed),
    ],
)
def test_an_error_is_typed_and_not_repeated(status: int, error: type[Exception]) -> None:
    fields = [{"pointer": "/pruning/blocks", "detail": "too many", "value": 99, "expected": "1 to 29"}]
    fake = Fake(get_job=[problem(status, "too many blocks", errors=fields)])
    with pytest.raises(error, match="too many blocks") as caught:
        fake.client().jobs.retrieve(JOB)
    assert len(fake.requests) == 1
    refusal = caught.value
    assert isinstance(refusal, InvalidRequest | AccessDenied | NotFound | Conflict | ServiceFailed)
    assert refusal.problem.errors is not None
    assert refusal.problem.errors[0].pointer == "/pruning/blocks"


def test_a_proxys_error_page_is_quoted() -> None:
    fake = Fake(get_job=[httpx.Response(404, text="<html>gone</html>")])
    with pytest.raises(NotFound, match="gone"):
        fake.client().jobs.retrieve(JOB)


def test_retry_after_is_honoured() -> None:
    slow = problem(429)
    slow.headers["retry-after"] = "20"
    fake = Fake(get_job=[slow, httpx.Response(200, json=job())])
    fake.client().jobs.retrieve(JOB)
    assert fake.slept == [pytest.approx(20, rel=0.26)]


def test_tries_come_to_an_end() -> None:
    fake = Fake(get_job=[problem(429)])
    with pytest.raises(RateLimited):
        fake.client().jobs.retrieve(JOB)
    assert len(fake.requests) == 4
    gone = Fake(get_job=[httpx.ConnectError("refused")])
    with pytest.raises(Unreachable, match="http://service does not answer"):
        gone.client().jobs.retrieve(JOB)


def test_a_retry_of_a_job_is_not_repeated() -> None:
    fake = Fake(post_retry=[httpx.ReadTimeout("slow")])
    with pytest.raises(Unreachable):
        fake.client().jobs.retry(JOB)
    assert len(fake.requests) == 1


def test_jobs_follows_the_pages() -> None:
    pages = [
        {"data": [job()], "has_more": True, "next_cursor": "c1"},
        {"data": [job("failed")], "has_more": False, "next_cursor": None},
    ]
    fake = Fake(get_jobs=[httpx.Response(200, json=page) for page in pages])
    found = list(fake.client().jobs.list(state="failed", labels={"commit": "abc"}, part_of_id="0c9d4e11"))
    assert [j.state.value for j in found] == ["running", "failed"]
    assert fake.requests[0].url.params["label"] == "commit=abc"
    assert fake.requests[0].url.params["id"] == "0c9d4e11"
    assert "cursor" not in fake.requests[0].url.params
    assert fake.requests[1].url.params["cursor"] == "c1"


def test_logs_follow_the_pages() -> None:
    line = {"seq": 1, "created_at": NOW, "level": "info", "message": "hello"}
    pages = [{"data": [line], "has_more": True, "next_after": 1}, {"data": [], "has_more": False, "next_after": 1}]
    fake = Fake(get_logs=[httpx.Response(200, json=page) for page in pages])
    assert [entry.message for entry in fake.client().jobs.logs(JOB)] == ["hello"]
    assert fake.requests[1].url.params["after"] == "1"


def test_an_upload_that_is_repeated_is_whole_again(tmp_path: Path) -> None:
    path = tmp_path / "news.txt"
    path.write_bytes(b"read all about it\n" * 10_000)  # more than is read at a time
    made = {
        **{"id": JOB, "name": "news.txt", "format": "text", "kind": "text", "rows": 1, "size": 180_000},
        **{"sha256": "0" * 64, "created_at": NOW},
    }
    fake = Fake(post_datasets=[problem(503), httpx.Response(201, json=made)])
    assert str(fake.client().datasets.create(path, name="mine").id) == JOB
    assert len(fake.requests) == 2
    for request in fake.requests:
        assert path.read_bytes() in request.content
        assert hashlib.sha256(path.read_bytes()).hexdigest().encode() in request.content
        assert b"mine" in request.content


def test_a_service_that_is_not_ready_says_so() -> None:
    fake = Fake(
        get_readyz=[httpx.Response(503, json={"ready": False, "checks": {"database": {"ok": False, "detail": "away"}}})]
    )
    assert not fake.client().ready().ready
    with pytest.raises(InvalidRequest):
        Fake(get_readyz=[problem(400)]).client().ready()


def test_what_is_no_answer_of_this_service_is_said_to_be_none() -> None:
    with pytest.raises(UnexpectedAnswer, match="does not answer as a service of this version does: no Job"):
        Fake(get_job=[httpx.Response(200, json={"hello": "world"})]).client().jobs.retrieve(JOB)


def test_two_jobs_are_compared() -> None:
    fake = Fake()
    fake.routes[f"get_compare_{OTHER_JOB_ID}"] = [httpx.Response(200, json=example_results.COMPARISON)]
    with fake.client() as client:
        found = client.jobs.compare(JOB, OTHER_JOB_ID)
    assert str(found.other.job_id) == OTHER_JOB_ID
    assert found.figures[0].metric == "parameters"
    assert fake.requests[0].url.path == f"/jobs/{JOB}/compare/{OTHER_JOB_ID}"


def test_what_cannot_be_compared_is_a_conflict() -> None:
    fake = Fake()
    fake.routes[f"get_compare_{OTHER_JOB_ID}"] = [problem(409, "only jobs that have succeeded can be compared")]
    with fake.client() as client, pytest.raises(Conflict, match="succeeded"):
        client.jobs.compare(JOB, OTHER_JOB_ID)


def test_sweeps() -> None:
    path, example = f"sweeps_{SWEEP_ID}", httpx.Response(200, json=sweeps.EXAMPLE)
    fake = Fake(post_sweeps=[problem(503), example], get_sweeps=[httpx.Response(200, json=sweeps.EXAMPLE_PAGE)])
    for name in (f"get_{path}", f"post_{path}_cancel", f"post_{path}_retry"):
        fake.routes[name] = [example]
    fake.routes[f"delete_{path}"] = [httpx.Response(204)]
    with fake.client() as client:
        asked = SweepSpec.model_validate(sweeps.GRID)
        assert str(client.sweeps.create(asked, idempotency_key="k", cancel_after="1h").id) == SWEEP_ID
        assert json.loads(fake.requests[-1].content) == sweeps.GRID
        assert {request.headers["idempotency-key"] for request in fake.requests} == {"k"}
        client.sweeps.create(sweeps.POINTS)
        assert json.loads(fake.requests[-1].content) == sweeps.POINTS
        assert fake.requests[-1].headers["idempotency-key"]
        assert [str(found.id) for found in client.sweeps.list()] == [SWEEP_ID]
        for found in (client.sweeps.retrieve(SWEEP_ID), client.sweeps.cancel(SWEEP_ID), client.sweeps.retry(SWEEP_ID)):
            assert found.points[1].running == ["recover"]
        client.sweeps.delete(SWEEP_ID)


def test_the_report_and_the_verdict_of_a_sweep() -> None:
    fake = Fake()
    path = f"sweeps_{SWEEP_ID}"
    fake.routes[f"get_{path}_report"] = [httpx.Response(200, json=sweeps.REPORT)]
    fake.routes[f"get_{path}_verdict"] = [httpx.Response(200, json=sweeps.VERDICT)]
    with fake.client() as client:
        assert client.sweeps.report(SWEEP_ID, x="speedup").recommended == 0
        assert dict(fake.requests[-1].url.params) == {"x": "speedup"}
        client.sweeps.report_text(SWEEP_ID, "html")
        assert fake.requests[-1].headers["accept"] == "text/html"
        assert client.sweeps.verdict(SWEEP_ID).verdict == "passed"
