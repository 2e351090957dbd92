"""Following a job to its end: a stream that reconnects where it was, and polling where streams do not get through."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

from secateur.client.errors import RateLimited, ServiceFailed, Unreachable, WaitTimedOut
from secateur.client.requests import Requests, asked_delay, jittered
from secateur.client.stream_messages import StreamExpired, stream_messages
from secateur.schemas.events import Event, EventPage
from secateur.schemas.jobs import Job

STREAM_FAILURES = 3  # in a row, without an event: then poll
POLL_SECONDS = (5.0, 60.0)


async def follow(
    requests: Requests, job_id: UUID | str, *, after: int = 0, timeout: float | None = None
) -> AsyncGenerator[Event]:
    """Every event above number `after` until the job is over: none is missed and none comes twice.

    Raises:
        WaitTimedOut: the job is not over after `timeout` seconds.
    """
    connection = requests.connection
    deadline = None if timeout is None else connection.clock() + timeout
    seq, quiet, errors, polling = after, 0, 0, False
    delay = POLL_SECONDS[0]
    while True:
        before, asked_to_wait = seq, 0.0
        events = _poll(requests, job_id, seq) if polling else _stream(requests, job_id, seq, deadline)
        try:
            async with aclosing(events):
                async for event in events:
                    seq = event.seq
                    yield event
            job = await requests.model(Job, "GET", f"/jobs/{job_id}")
            if job.state.terminal and job.last_event_seq <= seq:
                return
            errors = 0
        except StreamExpired:
            pass
        except (Unreachable, RateLimited, ServiceFailed) as error:
            errors += 1
            if errors >= STREAM_FAILURES + 1 + requests.retries:
                raise
            asked_to_wait = asked_delay(error)
        left = None if deadline is None else deadline - connection.clock()
        if left is not None and left <= 0:
            raise WaitTimedOut(UUID(str(job_id)), timeout or 0.0)
        quiet = 0 if seq > before else quiet + 1
        polling = polling or quiet >= STREAM_FAILURES
        if polling:
            delay = POLL_SECONDS[0] if seq > before else min(delay * 1.5, POLL_SECONDS[1])
        pause = max(jittered(delay if polling else 0.5 * quiet), asked_to_wait)
        await connection.sleep(pause if left is None else min(pause, left))


async def _stream(requests: Requests, job_id: UUID | str, after: int, deadline: float | None) -> AsyncGenerator[Event]:
    """Events of one connection, until the service ends it or it breaks."""
    messages = stream_messages(
        requests, f"/jobs/{job_id}/events", headers={"last-event-id": str(after)}, deadline=deadline
    )
    async with aclosing(messages):
        async for message in messages:
            if not message.id:
                continue
            event = requests.parsed(Event, message.data)
            if event.seq > after:
                after = event.seq
                yield event


async def _poll(requests: Requests, job_id: UUID | str, after: int) -> AsyncGenerator[Event]:
    """The events that are there now."""
    while True:
        params = {"after": after, "limit": 500}
        page = await requests.model(EventPage, "GET", f"/jobs/{job_id}/events", params=params)
        for event in page.data:
            yield event
        after = page.next_after
        if not page.has_more:
            return
