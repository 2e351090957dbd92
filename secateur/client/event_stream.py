"""Reading a `text/event-stream` (WHATWG HTML, section 9.2): a line goes in, and sometimes a message comes out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerSentEvent:
    """One message of a stream; `comment` marks a ping, which has no data."""

    data: str = ""
    id: str | None = None
    comment: bool = False


class EventReader:
    """Puts the lines of one stream together."""

    def __init__(self) -> None:
        self._data: list[str] = []
        self._id: str | None = None  # holds for the messages that follow too

    def feed(self, line: str) -> ServerSentEvent | None:
        """The message that this line ends. A comment is one at once, so that a reader sees that the stream lives."""
        if not line:
            data, self._data = self._data, []
            return ServerSentEvent("\n".join(data), self._id) if data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            return ServerSentEvent(comment=True)
        if name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        return None
