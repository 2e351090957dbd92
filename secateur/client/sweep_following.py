"""Following a sweep to its end: its stream while that holds, and asking again where it does not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

import httpx

from secateur.client.errors import RateLimited, ServiceFailed, Unreachable, WaitTimedOut, refused
from secateur.client.event_stream import EventReader
from secateur.client.following import POLL_SECONDS, STREAM_FAILURES, STREAM_SILENCE_SECONDS
from secateur.client.requests import Requests, asked_delay, jittered
from secateur.schemas.sweeps import Sweep, SweepChange


async def follow_sweep(
    requests: Requests, sweep_id: UUID | str, *, timeout: float | None = None
) -> AsyncGenerator[Sweep]:
    """The sweep as it is now, and whole again each time that a point stands otherwise, until it is over.

    Raises:
        WaitTimedOut: it is not over after `timeout` seconds.
    """
    connection = requests.connection
    deadline = None if timeout is None else connection.clock() + timeout
    known: Sweep | None = None
    quiet, asked_to_wait = 0, 0.0
    while True:
        sweep = await requests.model(Sweep, "GET", f"/sweeps/{sweep_id}")
        if sweep != known:
            known, quiet = sweep, 0
            yield sweep
        if sweep.state.terminal:
            return
        try:
            async with aclosing(_changes(requests, sweep_id, deadline)) as changes:
                async for change in changes:
                    after = _with(known, change)
                    if after != known:
                        known, quiet = after, 0
                        yield after
            asked_to_wait = 0.0
        except _Expired:
            pass
        except (Unreachable, RateLimited, ServiceFailed) as error:
            asked_to_wait = asked_delay(error)
        if known.state.terminal:
            return
        left = None if deadline is None else deadline - connection.clock()
        if left is not None and left <= 0:
            raise WaitTimedOut(UUID(str(sweep_id)), timeout or 0.0, what="sweep")
        quiet += 1
        pause = 0.5 * quiet
        if quiet >= STREAM_FAILURES:  # streams do not get through: ask now and then
            pause = min(POLL_SECONDS[0] * 1.5 ** (quiet - STREAM_FAILURES), POLL_SECONDS[1])
        pause = max(jittered(pause), asked_to_wait)
        await connection.sleep(pause if left is None else min(pause, left))


class _Expired(Exception):
    """The deadline passed in the middle of a stream."""


def _with(sweep: Sweep, change: SweepChange) -> Sweep:
    """The sweep as it is after a change."""
    points = {point.place: point for point in (*sweep.points, *change.points)}
    told = {name: getattr(change, name) for name in ("state", "verdict", "counts", "finished_at")}
    return sweep.model_copy(update={**told, "points": [points[place] for place in sorted(points)]})


async def _changes(requests: Requests, sweep_id: UUID | str, deadline: float | None) -> AsyncGenerator[SweepChange]:
    """What one connection tells, until the service ends it or it breaks."""
    connection = requests.connection

    def expired() -> bool:
        return deadline is not None and connection.clock() >= deadline

    silence = STREAM_SILENCE_SECONDS
    if deadline is not None:
        silence = min(silence, max(0.1, deadline - connection.clock()))
    timeout = httpx.Timeout(connection.address.timeout, read=silence)
    path, headers = f"/sweeps/{sweep_id}/events", {"accept": "text/event-stream"}
    reader = EventReader()
    try:
        async with connection.stream("GET", path, headers=headers, timeout=timeout) as response:
            if response.status_code >= 400:
                raise refused(response.status_code, await connection.whole(response), response.headers)
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise Unreachable("the answer is no event stream")
            async with aclosing(connection.lines(response)) as lines:
                async for line in lines:
                    message = reader.feed(line)
                    if message is None:
                        continue
                    if expired():
                        raise _Expired
                    if not message.comment and message.data:
                        yield requests.parsed(SweepChange, message.data)
    except httpx.TransportError as error:
        if expired():
            raise _Expired from error
        raise Unreachable(f"the event stream broke: {error}") from error
