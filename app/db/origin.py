"""Where a change came from: the request that asked for it, by which all that follows from it is found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """A request, as its job, its events and its stages' processes tell of it."""

    request_id: str | None = None  # of the answer's X-Request-Id
    traceparent: str | None = None  # its span, as W3C's trace context has it; None where nothing is traced


UNKNOWN = Origin()
