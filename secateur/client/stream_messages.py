"""The messages of one event stream, until the service ends it, it breaks, or a deadline passes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import httpx

from secateur.client.errors import Unreachable, refused
from secateur.client.event_stream import EventReader, ServerSentEvent
from secateur.client.requests import Requests

STREAM_SILENCE_SECONDS = 45.0  # the service pings more often than that


class StreamExpired(Exception):
    """The deadline passed in the middle of a stream."""


async def stream_messages(
    requests: Requests, path: str, *, headers: Mapping[str, str] | None = None, deadline: float | None
) -> AsyncGenerator[ServerSentEvent]:
    """Messages as they come, without the comments that keep a stream awake.

    Raises:
        StreamExpired: the deadline, by the connection's clock, has passed.
        Unreachable: the stream broke, or the answer is none.
        RequestRefused: the service said no.
    """

    connection = requests.connection

    def expired() -> bool:
        return deadline is not None and connection.clock() >= deadline

    silence = STREAM_SILENCE_SECONDS
    if deadline is not None:
        silence = min(silence, max(0.1, deadline - connection.clock()))
    timeout = httpx.Timeout(requests.patience, read=silence)
    asked = {"accept": "text/event-stream", **(headers or {})}
    reader = EventReader()
    try:
        async with connection.stream("GET", path, headers=asked, timeout=timeout) as response:
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
                        raise StreamExpired
                    if not message.comment:
                        yield message
    except httpx.TransportError as error:
        if expired():
            raise StreamExpired from error
        raise Unreachable(f"the event stream broke: {error}") from error
