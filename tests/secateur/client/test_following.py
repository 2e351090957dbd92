"""Following a job, with both clients."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Generator, Iterator
from contextlib import aclosing
from typing import Any, cast

import httpx
import pytest

from secateur.client.async_client import AsyncClient
from secateur.client.errors import (
    NotFound,
    WaitTimedOut,
)
from secateur.client.following import POLL_SECONDS, STREAM_FAILURES
from secateur.client.job_progress import JobProgress
from tests.fixtures.scripted_service import (
    JOB,
    Broken,
    Fake,
    InLoop,
    event,
    frames,
    job,
    nothing_new,
    problem,
    stream,
)

pytestmark = pytest.mark.usefixtures("runner")  # each test is run with both clients


def test_a_broken_stream_is_resumed_after_the_last_event() -> None:
    broken = httpx.Response(
        200, stream=Broken(frames(event(1), event(2))), headers={"content-type": "text/event-stream"}
    )
    fake = Fake(
        get_events=[broken, stream(event(2), event(3, "state", state="succeeded"))],
        get_job=[httpx.Response(200, json=job("succeeded", 3))],
    )
    assert [e.seq for e in fake.client().jobs.events(JOB)] == [1, 2, 3]
    asked = [r.headers.get("last-event-id") for r in fake.requests if r.url.path.endswith("events")]
    assert asked == ["0", "2"]


def test_a_terminal_state_that_was_retried_is_not_the_end() -> None:
    fake = Fake(
        get_events=[stream(event(1, "state", state="failed")), stream(event(2, "state", state="succeeded"))],
        get_job=[httpx.Response(200, json=job("running", 1)), httpx.Response(200, json=job("succeeded", 2))],
    )
    assert [e.seq for e in fake.client().jobs.events(JOB)] == [1, 2]


def test_a_job_that_is_over_is_followed_to_its_last_event() -> None:
    fake = Fake(
        get_events=[stream(event(1)), stream(event(2), event(2), event(3))],  # cut off after the first; one comes twice
        get_job=[httpx.Response(200, json=job("succeeded", 3)) for _ in range(2)],
    )
    assert [e.seq for e in fake.client().jobs.events(JOB)] == [1, 2, 3]


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
    assert [e.seq for e in fake.client().jobs.events(JOB)] == [1, 2, 3, 4]
    polls = fake.slept[STREAM_FAILURES - 1 :]
    assert len(polls) == 4
    assert all(0.75 * POLL_SECONDS[0] <= seconds <= 1.25 * POLL_SECONDS[1] for seconds in polls)


def test_a_missing_job_is_no_reason_to_wait() -> None:
    fake = Fake(get_events=[problem(404, "no such job")])
    with pytest.raises(NotFound, match="no such job"):
        list(fake.client().jobs.events(JOB))


def test_waiting_ends_at_the_deadline() -> None:
    fake = Fake(
        get_events=lambda request: (
            stream(event(1)) if request.headers["accept"] == "text/event-stream" else nothing_new()
        ),
        get_job=[httpx.Response(200, json=job("running", 1))],
    )
    with pytest.raises(WaitTimedOut, match="it goes on"):
        fake.client().jobs.wait(JOB, timeout=30)
    assert fake.now == 30  # and not a pause later


def test_wait_returns_the_finished_job() -> None:
    fake = Fake(get_events=[stream(event(1), event(2))], get_job=[httpx.Response(200, json=job("cancelled", 2))])
    seen: list[int] = []
    assert fake.client().jobs.wait(JOB, on_event=lambda e: seen.append(e.seq)).state == "cancelled"
    assert seen == [1, 2]


def test_who_waits_is_told_how_far_the_job_is() -> None:
    use = {"memory_bytes": 7, "peak_memory_bytes": 9, "cores": 1.5}
    told = [event(1), event(2, "progress", done=1, total=4, unit="blocks"), event(3, "log", message="x")]
    told.append(event(4, "progress", done=8, total=4, unit="blocks", use=use))
    fake = Fake(get_events=[stream(*told)], get_job=[httpx.Response(200, json=job("succeeded", 4))])
    seen: list[JobProgress] = []
    with fake.client() as client:
        client.jobs.wait(JOB, on_progress=seen.append)
    assert [(one.done, one.total, one.unit, one.share) for one in seen] == [
        (1, 4, "blocks", 0.25),
        (8, 4, "blocks", 1.0),
    ]
    assert [one.use and one.use.cores for one in seen] == [None, 1.5]


def test_who_stops_early_leaves_no_stream_open(runner: asyncio.Runner | None) -> None:
    closed: list[str] = []

    class Endless(Broken):
        def __iter__(self) -> Iterator[bytes]:
            for seq in itertools.count(1):
                yield frames(event(seq))

        def close(self) -> None:
            closed.append("sync")

        async def aclose(self) -> None:
            closed.append("async")

    endless = httpx.Response(200, stream=Endless(b""), headers={"content-type": "text/event-stream"})
    client = Fake(get_events=[endless]).client()
    if runner is None:
        events = client.jobs.events(JOB)
        assert next(events).seq == 1
        cast("Generator[Any]", events).close()
        assert closed == ["sync"]
        return

    async def first() -> int:
        waiting: AsyncClient = cast("InLoop", client).client
        async with aclosing(waiting.jobs.events(JOB)) as events:
            return (await anext(events)).seq

    assert runner.run(first()) == 1
    assert closed == ["async"]
