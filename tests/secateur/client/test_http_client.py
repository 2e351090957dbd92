"""The HTTP client against a scripted transport: no server, every fault on demand."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from secateur.client.errors import (
    AccessDenied,
    ChecksumMismatch,
    ClientError,
    Conflict,
    InvalidRequest,
    NotFound,
    RateLimited,
    ServiceFailed,
    Unreachable,
    WaitTimedOut,
    retry_after_seconds,
)
from secateur.client.http_client import POLL_SECONDS, STREAM_FAILURES, Client

JOB = "0198f0de-0000-7000-8000-000000000001"
NOW = "2026-11-24T18:30:00Z"
SPEC = {"model": {"source": "local", "path": "m.gguf"}, "pruning": {"kind": "depth", "blocks": 6}}

Handler = Callable[[httpx.Request], httpx.Response]


def job(state: str = "running", last: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "id": JOB,
        "state": state,
        "verdict": "none",
        "model": "m.gguf",
        "labels": {},
        "created_at": NOW,
        "updated_at": NOW,
        "stages": [],
        "last_event_seq": last,
        "spec": SPEC,
        **more,
    }


def event(seq: int, type: str = "log", **data: Any) -> dict[str, Any]:
    return {"seq": seq, "created_at": NOW, "type": type, "level": "info", "data": data}


def problem(status: int, detail: str = "no", **more: Any) -> httpx.Response:
    body = {"type": "about:blank", "title": "T", "status": status, "detail": detail, **more}
    return httpx.Response(status, json=body, headers={"content-type": "application/problem+json"})


def frames(*events: dict[str, Any]) -> bytes:
    lines = [f"id: {e['seq']}\nevent: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events]
    return ": ping\n\n".join(lines).encode()


def stream(*events: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, content=frames(*events), headers={"content-type": "text/event-stream"})


EMPTY = httpx.Response(200, json={"data": [], "has_more": False, "next_after": 1})


class Broken(httpx.SyncByteStream):
    """A body that breaks off after some bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self.content
        raise httpx.ReadError("connection reset")


class Fake:
    """A service whose answers are given in order for each method and path; the last one is repeated."""

    def __init__(self, **routes: list[httpx.Response | Exception] | Handler) -> None:
        self.routes = {name.replace("__", "/"): answers for name, answers in routes.items()}
        self.requests: list[httpx.Request] = []
        self.slept: list[float] = []
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        path = request.url.path.removeprefix(f"/jobs/{JOB}").strip("/").replace("/", "_") or "job"
        answers = self.routes[f"{request.method.lower()}_{path}"]
        if callable(answers):
            return answers(request)
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, Exception):
            raise found
        return found

    def client(self) -> Client:
        transport = httpx.MockTransport(self.answer)
        return Client("http://service", transport=transport, sleep=self.sleep, clock=lambda: self.now)


def test_submit_sends_spec_and_key_and_repeats_itself() -> None:
    fake = Fake(post_jobs=[httpx.ConnectError("refused"), problem(503), httpx.Response(202, json=job("queued"))])
    with fake.client() as client:
        made = client.submit(SPEC, cancel_after="2h")
    assert str(made.id) == JOB
    keys = {request.headers["idempotency-key"] for request in fake.requests}
    assert len(fake.requests) == 3
    assert len(keys) == 1
    assert fake.requests[-1].headers["cancel-after"] == "2h"
    assert json.loads(fake.requests[-1].content) == SPEC


def test_the_key_is_sent_as_bearer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_API_KEY", "k1")
    fake = Fake(get_job=[httpx.Response(200, json=job())])
    fake.client().job(JOB)
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
        fake.client().job(JOB)
    assert len(fake.requests) == 1
    refusal = caught.value
    assert isinstance(refusal, InvalidRequest | AccessDenied | NotFound | Conflict | ServiceFailed)
    assert refusal.problem.errors is not None
    assert refusal.problem.errors[0].pointer == "/pruning/blocks"


def test_a_proxys_error_page_is_quoted() -> None:
    fake = Fake(get_job=[httpx.Response(404, text="<html>gone</html>")])
    with pytest.raises(NotFound, match="gone"):
        fake.client().job(JOB)


def test_retry_after_is_honoured() -> None:
    slow = problem(429)
    slow.headers["retry-after"] = "20"
    fake = Fake(get_job=[slow, httpx.Response(200, json=job())])
    fake.client().job(JOB)
    assert fake.slept == [pytest.approx(20, rel=0.26)]


def test_tries_come_to_an_end() -> None:
    fake = Fake(get_job=[problem(429)])
    with pytest.raises(RateLimited):
        fake.client().job(JOB)
    assert len(fake.requests) == 4
    gone = Fake(get_job=[httpx.ConnectError("refused")])
    with pytest.raises(Unreachable, match="http://service does not answer"):
        gone.client().job(JOB)


def test_a_retry_of_a_job_is_not_repeated() -> None:
    fake = Fake(post_retry=[httpx.ReadTimeout("slow")])
    with pytest.raises(Unreachable):
        fake.client().retry(JOB)
    assert len(fake.requests) == 1


def test_retry_after_as_a_date() -> None:
    assert retry_after_seconds("Tue, 24 Nov 2020 18:30:00 GMT") == 0.0
    assert retry_after_seconds("7") == 7.0
    assert retry_after_seconds("soon") is None


def test_jobs_follows_the_pages() -> None:
    pages = [
        {"data": [job()], "has_more": True, "next_cursor": "c1"},
        {"data": [job("failed")], "has_more": False, "next_cursor": None},
    ]
    fake = Fake(get_jobs=[httpx.Response(200, json=page) for page in pages])
    found = list(fake.client().jobs(state="failed", labels={"commit": "abc"}))
    assert [j.state.value for j in found] == ["running", "failed"]
    assert fake.requests[0].url.params["label"] == "commit=abc"
    assert "cursor" not in fake.requests[0].url.params
    assert fake.requests[1].url.params["cursor"] == "c1"


def test_a_broken_stream_is_resumed_after_the_last_event() -> None:
    broken = httpx.Response(
        200, stream=Broken(frames(event(1), event(2))), headers={"content-type": "text/event-stream"}
    )
    fake = Fake(
        get_events=[broken, stream(event(2), event(3, "state", state="succeeded"))],
        get_job=[httpx.Response(200, json=job("succeeded", 3))],
    )
    assert [e.seq for e in fake.client().events(JOB)] == [1, 2, 3]
    asked = [r.headers.get("last-event-id") for r in fake.requests if r.url.path.endswith("events")]
    assert asked == ["0", "2"]


def test_a_terminal_state_that_was_retried_is_not_the_end() -> None:
    fake = Fake(
        get_events=[stream(event(1, "state", state="failed")), stream(event(2, "state", state="succeeded"))],
        get_job=[httpx.Response(200, json=job("running", 1)), httpx.Response(200, json=job("succeeded", 2))],
    )
    assert [e.seq for e in fake.client().events(JOB)] == [1, 2]


def test_without_streams_it_polls_with_jitter() -> None:
    numbers = itertools.count(1)

    def events(request: httpx.Request) -> httpx.Response:
        if request.headers["accept"] == "text/event-stream":
            raise httpx.ReadTimeout("a proxy holds the stream back")
        seq = next(numbers)
        page = {"data": [event(seq)], "has_more": False, "next_after": seq}
        return httpx.Response(200, json=page)

    states = [httpx.Response(200, json=job()) for _ in range(3)]
    fake = Fake(get_events=events, get_job=[*states, httpx.Response(200, json=job("succeeded", 4))])
    assert [e.seq for e in fake.client().events(JOB)] == [1, 2, 3, 4]
    polls = fake.slept[STREAM_FAILURES - 1 :]
    assert len(polls) == 4
    assert all(0.75 * POLL_SECONDS[0] <= seconds <= 1.25 * POLL_SECONDS[1] for seconds in polls)


def test_a_missing_job_is_no_reason_to_wait() -> None:
    fake = Fake(get_events=[problem(404, "no such job")])
    with pytest.raises(NotFound, match="no such job"):
        list(fake.client().events(JOB))


def test_waiting_ends_at_the_deadline() -> None:
    fake = Fake(
        get_events=lambda request: stream(event(1)) if request.headers["accept"] == "text/event-stream" else EMPTY,
        get_job=[httpx.Response(200, json=job("running", 1))],
    )
    with pytest.raises(WaitTimedOut, match="it goes on"):
        fake.client().wait(JOB, timeout=30)


def test_wait_returns_the_finished_job() -> None:
    fake = Fake(get_events=[stream(event(1), event(2))], get_job=[httpx.Response(200, json=job("cancelled", 2))])
    seen: list[int] = []
    assert fake.client().wait(JOB, on_event=lambda e: seen.append(e.seq)).state == "cancelled"
    assert seen == [1, 2]


def test_logs_follow_the_pages() -> None:
    line = {"seq": 1, "created_at": NOW, "level": "info", "message": "hello"}
    pages = [{"data": [line], "has_more": True, "next_after": 1}, {"data": [], "has_more": False, "next_after": 1}]
    fake = Fake(get_logs=[httpx.Response(200, json=page) for page in pages])
    assert [entry.message for entry in fake.client().logs(JOB)] == ["hello"]
    assert fake.requests[1].url.params["after"] == "1"


# --- downloads ---------------------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 40


def artifact(path: str = "recover/checkpoint/model.safetensors", content: bytes = CONTENT) -> dict[str, Any]:
    return {
        "path": path,
        "stage": "recover",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "content_type": "application/octet-stream",
        "created_at": NOW,
    }


def download_service(contents: list[httpx.Response | Exception] | Handler, path: str | None = None) -> Fake:
    listed = artifact(path) if path else artifact()
    fake = Fake(get_artifacts=[httpx.Response(200, json={"data": [listed]})])
    fake.routes["get_artifacts_" + listed["path"].replace("/", "_")] = contents
    return fake


def test_a_download_is_resumed_and_checked(tmp_path: Path) -> None:
    def ranged(request: httpx.Request) -> httpx.Response:
        if "range" not in request.headers:
            return httpx.Response(200, stream=Broken(CONTENT[:3000]))
        start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        assert request.headers["if-range"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
        return httpx.Response(206, content=CONTENT[start:])

    fake = download_service(ranged)
    seen: list[int] = []
    paths = fake.client().download(JOB, tmp_path, prefix="recover/", progress=lambda a, done: seen.append(done))
    assert paths == [tmp_path / "recover/checkpoint/model.safetensors"]
    assert paths[0].read_bytes() == CONTENT
    assert seen[-1] == len(CONTENT)
    assert not list(tmp_path.rglob("*.part"))
    before = len(fake.requests)
    fake.client().download(JOB, tmp_path)
    assert len(fake.requests) == before + 1  # the list alone: the file is there and whole


def test_a_corrupt_download_is_not_kept(tmp_path: Path) -> None:
    fake = download_service(lambda request: httpx.Response(200, content=b"x" * len(CONTENT)))
    with pytest.raises(ChecksumMismatch, match="not what was published"):
        fake.client().download(JOB, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_download_that_keeps_breaking_is_kept_for_later(tmp_path: Path) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("reset")

    fake = download_service(broken)
    with pytest.raises(Unreachable, match="broke off"):
        fake.client().download(JOB, tmp_path)


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "recover/../../x", "C:/x"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    fake = download_service([httpx.Response(200, content=CONTENT)], path)
    with pytest.raises(ClientError, match="no path below a folder"):
        fake.client().download(JOB, tmp_path)
