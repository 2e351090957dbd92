"""Reading a `text/event-stream` (WHATWG HTML, section 9.2): lines in, messages out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerSentEvent:
    """One message of a stream; `comment` marks a ping, which has no data."""

    event: str = "message"
    data: str = ""
    id: str | None = None
    retry: float | None = None  # seconds
    comment: bool = False


def read_events(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    """Messages in order. A comment line is passed on at once, so that a reader sees that the stream lives."""
    event, data, identity, retry = "message", list[str](), None, None
    for line in lines:
        if not line:
            if data:
                yield ServerSentEvent(event, "\n".join(data), identity, retry)
            event, data, retry = "message", [], None
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            yield ServerSentEvent(comment=True)
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            identity = value
        elif name == "retry" and value.isdigit():
            retry = int(value) / 1000
