"""What an error of the hub's client says: that the hub is away, or something of what was asked for.

Clients wrap what they meet (`datasets` above all), so the whole chain of an error is looked at. A hub that is away may
be back later, and the field of the job is as it should be; whatever else is raised is about the thing that was named.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

CANNOT_CONNECT = (
    httpx2.TransportError,
    OfflineModeIsEnabled,
    LocalEntryNotFoundError,
    ConnectionError,
    TimeoutError,
)
_OF_OTHER_CLIENTS = frozenset({"ClientConnectionError", "ConnectTimeout", "TransportError"})  # aiohttp, requests, httpx
_TOO_MANY = 429


def why_away(error: BaseException) -> str | None:
    """Why the hub could not answer, in a word; None where the error says something else."""
    for cause in causes(error):
        if isinstance(cause, CANNOT_CONNECT) or _OF_OTHER_CLIENTS & {kind.__name__ for kind in type(cause).__mro__}:
            return type(cause).__name__
        if isinstance(cause, HfHubHTTPError):
            status = int(cause.response.status_code)
            return f"it answered {status}" if status >= 500 or status == _TOO_MANY else None
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
