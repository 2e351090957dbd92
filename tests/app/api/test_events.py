"""A job's history as JSON pages and as server-sent events, on a real uvicorn and a real LISTEN connection."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.db.session import SessionFactory
from app.main import create_app
from app.services import event_hub
from app.settings import Settings
from tests.fixtures.live import serving
from tests.fixtures.played_worker import PlayedWorker

Submit = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Message:
    id: int
    event: str
    data: dict[str, Any]


@pytest.fixture
def live(application: FastAPI) -> Iterator[httpx.Client]:
    """A client of the application on a real server."""
    application.state.ping_seconds = 0.3
    with serving(application) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
def job_id(live: httpx.Client, spec: dict[str, Any]) -> str:
    return str(live.post("/jobs", json=spec).json()["id"])


def stream(
    client: httpx.Client, job_id: str, *, last: int | None = None, stop_after: int | None = None, query: str = ""
) -> Iterator[Message | str]:
    """Messages of a stream, and its comments as text."""
    headers = {"accept": "text/event-stream"} | ({"last-event-id": str(last)} if last is not None else {})
    with client.stream("GET", f"/jobs/{job_id}/events{query}", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            if line.startswith(":"):
                yield line
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                yield Message(int(fields["id"]), fields["event"], json.loads(fields["data"]))
                if stop_after is not None and int(fields["id"]) >= stop_after:
                    return
                fields = {}


def messages(*arguments: Any, **options: Any) -> list[Message]:
    return [message for message in stream(*arguments, **options) if isinstance(message, Message)]


def test_pages_hold_every_event_in_order(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    job = submit()["id"]
    worker.finish(job)
    everything = client.get(f"/jobs/{job}/events", params={"limit": 1000}).json()
    assert everything["has_more"] is False
    numbers = [event["seq"] for event in everything["data"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert everything["data"][0]["data"] == {"state": "queued"}
    assert everything["data"][-1]["data"] == {"state": "succeeded"}
    paged: list[Any] = []
    after, more = 0, True
    while more:
        page = client.get(f"/jobs/{job}/events", params={"after": after, "limit": 4}).json()
        paged, after, more = paged + page["data"], page["next_after"], page["has_more"]
    assert paged == everything["data"]


def test_pages_are_filtered_by_type(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    job = submit()["id"]
    worker.finish(job)
    page = client.get(f"/jobs/{job}/events?type=verdict").json()
    assert [event["data"]["verdict"] for event in page["data"]] == ["passed"]
    assert client.get(f"/jobs/{job}/events?type=nonsense").status_code == 422


def test_the_accept_header_chooses(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    job = submit()["id"]
    worker.finish(job)
    path = f"/jobs/{job}/events"
    for accept, got in [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("text/html, text/event-stream;q=0.5", "text/event-stream"),
    ]:
        assert client.get(path, headers={"accept": accept}).headers["content-type"].startswith(got)
    assert client.get(path, headers={"accept": "image/png"}).status_code == 406


def test_a_stream_tells_everything_as_it_happens_and_ends_with_the_job(
    live: httpx.Client, job_id: str, worker: PlayedWorker
) -> None:
    told: queue.Queue[Message] = queue.Queue()

    def read() -> None:
        for message in stream(live, job_id):
            if isinstance(message, Message):
                told.put(message)

    reader = threading.Thread(target=read)
    reader.start()
    got = [told.get(timeout=60)]
    for _ in range(5):
        worker.succeed(worker.claim(job_id))
        while got[-1].data["data"] != {"state": "succeeded", "stage": got[-1].data["stage"]}:
            got.append(told.get(timeout=60))  # each stage's end is told before the next one begins
    reader.join(60)
    assert not reader.is_alive()  # ended by itself
    got += list(told.queue)
    page = live.get(f"/jobs/{job_id}/events?limit=1000").json()["data"]
    assert [message.data for message in got] == page
    assert [message.id for message in got] == [event["seq"] for event in page]
    assert [message.event for message in got] == [event["type"] for event in page]


def test_a_stream_too_many_gives_what_there_is_and_ends(
    settings: Settings, spec: dict[str, Any], worker: PlayedWorker
) -> None:
    """Open streams hold connections: where they may hold no more, a client that wants one comes again and again."""
    application = create_app(settings, most_streams=1)
    application.state.ping_seconds = 0.1
    with serving(application) as url, httpx.Client(base_url=url, timeout=60) as live:
        job_id = str(live.post("/jobs", json=spec).json()["id"])
        staying = stream(live, job_id)
        assert isinstance(next(staying), Message)
        assert isinstance(next(staying), str)  # it waits for news
        assert [message.id for message in messages(live, job_id)] == [1]
        worker.claim(job_id)
        news = [message.id for message in messages(live, job_id, last=1)]
        assert news == list(range(2, 2 + len(news)))
        assert news
        assert messages(live, job_id, last=news[-1]) == []
        staying.close()  # type: ignore[attr-defined]  # a generator
        again = stream(live, job_id, last=news[-1])
        patience = time.monotonic() + 60
        while next(again, None) is None:  # until the server has seen that the first one is gone
            assert time.monotonic() < patience
            again = stream(live, job_id, last=news[-1])
        assert isinstance(next(again), str)
        again.close()  # type: ignore[attr-defined]


def test_a_dropped_stream_resumes_without_a_gap_or_a_repeat(
    live: httpx.Client, job_id: str, worker: PlayedWorker
) -> None:
    """Fault 18: the connection is cut at random places while a worker writes."""
    done = threading.Event()

    def write() -> None:
        claim = worker.claim(job_id)
        for number in range(120):
            worker.log(claim, f"line {number}", before=number)
        worker.succeed(claim)
        worker.finish(job_id)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[int] = []
    cuts = 0
    while True:
        before = len(seen)
        for message in stream(live, job_id, last=seen[-1] if seen else None, stop_after=(seen[-1] if seen else 0) + 7):
            if isinstance(message, Message):
                seen.append(message.id)
        if len(seen) == before or (done.is_set() and seen[-1] == live.get(f"/jobs/{job_id}").json()["last_event_seq"]):
            break
        cuts += 1
    writer.join(60)
    assert cuts > 10
    assert seen == list(range(1, live.get(f"/jobs/{job_id}").json()["last_event_seq"] + 1))


def test_the_header_goes_before_the_query(live: httpx.Client, job_id: str, worker: PlayedWorker) -> None:
    worker.finish(job_id)
    assert messages(live, job_id, last=5, query="?after=2")[0].id == 6
    assert messages(live, job_id, query="?after=2")[0].id == 3


def test_a_stream_of_a_job_that_is_over_ends_at_once(live: httpx.Client, job_id: str, worker: PlayedWorker) -> None:
    worker.finish(job_id)
    last = live.get(f"/jobs/{job_id}").json()["last_event_seq"]
    assert messages(live, job_id, last=last) == []
    assert messages(live, job_id, last=last + 100) == []
    assert messages(live, job_id)[-1].id == last


def test_a_stream_goes_on_through_a_retry(live: httpx.Client, job_id: str, worker: PlayedWorker) -> None:
    problem = {"type": "about:blank", "title": "Stage failed", "status": 500, "detail": "broke"}
    worker.fail(worker.claim(job_id), problem)
    live.post(f"/jobs/{job_id}/retry")
    got: list[Message] = []
    reader = threading.Thread(target=lambda: got.extend(messages(live, job_id)))
    reader.start()
    worker.finish(job_id)
    reader.join(60)
    states = [m.data["data"]["state"] for m in got if m.event == "state" and m.data["stage"] is None]
    assert states == ["queued", "running", "failed", "queued", "running", "succeeded"]


def test_a_quiet_stream_is_kept_alive(live: httpx.Client, job_id: str) -> None:
    comments = 0
    for message in stream(live, job_id):
        comments += isinstance(message, str)
        if comments == 2:
            break
    assert comments == 2


def test_all_streams_share_one_listening_connection(
    live: httpx.Client, job_id: str, worker: PlayedWorker, database_url: str
) -> None:
    readers = [threading.Thread(target=messages, args=(live, job_id)) for _ in range(8)]
    for reader in readers:
        reader.start()
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'secateur events' AND datname = %s"
    with psycopg.connect(database_url, autocommit=True) as connection:  # a transaction would see one moment only
        deadline = time.monotonic() + 60
        counts: list[int] = []
        while time.monotonic() < deadline and not any(counts):
            time.sleep(0.2)
            row = connection.execute(query, [connection.info.dbname]).fetchone()
            assert row is not None
            counts.append(row[0])
    assert counts[-1] == 1
    worker.finish(job_id)
    for reader in readers:
        reader.join(60)
        assert not reader.is_alive()


def test_a_stream_outlives_its_listening_connection(
    live: httpx.Client, job_id: str, worker: PlayedWorker, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hub, "POLL_SECONDS", 0.1)
    got: list[Message] = []
    reader = threading.Thread(target=lambda: got.extend(messages(live, job_id)))
    reader.start()
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'secateur events'"
    with psycopg.connect(database_url, autocommit=True) as connection:
        for _ in range(5):
            time.sleep(0.2)
            connection.execute(kill)
            worker.succeed(worker.claim(job_id))
    reader.join(60)
    assert not reader.is_alive()
    assert [m.id for m in got] == list(range(1, live.get(f"/jobs/{job_id}").json()["last_event_seq"] + 1))


def test_streams_end_when_the_server_stops(application: FastAPI, spec: dict[str, Any]) -> None:
    with serving(application) as url, httpx.Client(base_url=url, timeout=60) as client:
        job = client.post("/jobs", json=spec).json()["id"]
        got: list[Message] = []
        reader = threading.Thread(target=lambda: got.extend(messages(client, job)))
        reader.start()
        deadline = time.monotonic() + 60
        while not application.state.event_hub._subscriptions and time.monotonic() < deadline:
            time.sleep(0.01)
        application.state.event_hub.end_streams()
        reader.join(60)
        assert not reader.is_alive()
    assert [message.id for message in got] == [1]


@pytest.mark.parametrize("value", ["x", "-1", str(2**63), "1.5"])
def test_a_bad_last_event_id_is_named(client: TestClient, submit: Submit, value: str) -> None:
    job = submit()["id"]
    response = client.get(f"/jobs/{job}/events", headers={"Last-Event-ID": value, "accept": "text/event-stream"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["parameter"] == "header last-event-id"


def test_logs_as_text_and_as_json(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    job = submit()["id"]
    claim = worker.claim(job)
    for number in range(5):
        worker.log(claim, f"line {number}", before=number, level="warning" if number == 3 else "info")
    text = client.get(f"/jobs/{job}/logs", headers={"accept": "text/plain"})
    assert text.headers["content-type"].startswith("text/plain")
    lines = text.text.splitlines()
    assert [line[-6:] for line in lines] == [f"line {n}" for n in range(5)]
    assert "WARNING" in lines[3]
    assert "check#1" in lines[0]
    page = client.get(f"/jobs/{job}/logs", params={"limit": 2}).json()
    assert [line["message"] for line in page["data"]] == ["line 0", "line 1"]
    assert page["has_more"] is True
    rest = client.get(f"/jobs/{job}/logs", params={"after": page["next_after"]}).json()
    assert [line["message"] for line in rest["data"]] == ["line 2", "line 3", "line 4"]
    assert rest["data"][1]["level"] == "warning"


def test_a_long_log_comes_whole(
    client: TestClient, submit: Submit, worker: PlayedWorker, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.api import logs

    monkeypatch.setattr(logs, "LINES", 10)
    job = submit()["id"]
    claim = worker.claim(job)
    for number in range(35):
        worker.log(claim, f"line {number}", before=number)
    text = client.get(f"/jobs/{UUID(job)}/logs", headers={"accept": "text/plain"}).text
    assert [line.split("line ")[1] for line in text.splitlines()] == [str(n) for n in range(35)]
