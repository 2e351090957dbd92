"""Following a sweep to its end: its stream while that holds, and asking again where it does not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

from secateur.client.errors import RateLimited, ServiceFailed, Unreachable, WaitTimedOut
from secateur.client.following import POLL_SECONDS, STREAM_FAILURES
from secateur.client.requests import Requests, asked_delay, jittered
from secateur.client.stream_messages import StreamExpired, stream_messages
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
        except StreamExpired:
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


def _with(sweep: Sweep, change: SweepChange) -> Sweep:
    """The sweep as it is after a change."""
    points = {point.place: point for point in (*sweep.points, *change.points)}
    told = {name: getattr(change, name) for name in ("state", "verdict", "counts", "finished_at")}
    return sweep.model_copy(update={**told, "points": [points[place] for place in sorted(points)]})


async def _changes(requests: Requests, sweep_id: UUID | str, deadline: float | None) -> AsyncGenerator[SweepChange]:
    """What one connection tells, until the service ends it or it breaks."""
    messages = stream_messages(requests, f"/sweeps/{sweep_id}/events", deadline=deadline)
    async with aclosing(messages):
        async for message in messages:
            if message.data:
                yield requests.parsed(SweepChange, message.data)
