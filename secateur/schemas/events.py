"""Events of a job, as JSON and as server-sent events; and its log lines."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from secateur.schemas.base import Body, Timestamp

EventType = Literal["state", "progress", "log", "metrics", "text", "verdict"]
Level = Literal["debug", "info", "warning", "error"]

BEHIND = "Of the request behind it: the retry or cancel that it tells of, else the request that made the job."


class Event(Body):
    """Something that happened to a job; `seq` counts from 1 without a gap, and is the id of the server-sent event."""

    seq: int
    created_at: Timestamp
    type: EventType
    level: Level
    stage: str | None = Field(default=None, description="Null for an event of the job itself.")
    attempt: int | None = None
    request_id: str | None = Field(default=None, description=BEHIND)
    data: dict[str, Any] = Field(
        description="state: {state, …}; progress: {done, total, unit, use}; log: {message}; metrics: figures; "
        "text: {variant, text, tokens}, a piece of an answer; verdict: {verdict, gates}."
    )


class EventPage(Body):
    """Events in their order."""

    data: list[Event]
    has_more: bool
    next_after: int = Field(description="Give it as `after` to get what comes next.")


class LogLine(Body):
    """One line that a stage logged."""

    seq: int
    created_at: Timestamp
    level: Level
    stage: str | None = None
    attempt: int | None = None
    request_id: str | None = Field(default=None, description=BEHIND)
    message: str


class LogPage(Body):
    """Log lines in their order."""

    data: list[LogLine]
    has_more: bool
    next_after: int = Field(description="Give it as `after` to get what comes next.")
