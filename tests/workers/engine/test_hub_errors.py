"""Which errors of a hub's client say that the hub is away."""

from __future__ import annotations

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError

from workers.engine.hub_errors import why_away


class ClientConnectionError(Exception):
    """As aiohttp calls it."""


class ServerDisconnectedError(ClientConnectionError):
    pass


def answered(status: int) -> HfHubHTTPError:
    return HfHubHTTPError("no", response=httpx2.Response(status, request=httpx2.Request("GET", "http://hub/")))


def wrapped(error: Exception) -> Exception:
    outer = RuntimeError("while generating")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConnectionRefusedError(), "ConnectionRefusedError"),
        (TimeoutError(), "TimeoutError"),
        (httpx2.ConnectError("no"), "ConnectError"),
        (
            type("ServerDisconnectedError", (type("ClientConnectionError", (Exception,), {}),), {})(),
            "ServerDisconnected",
        ),
        (answered(503), "it answered 503"),
        (answered(429), "it answered 429"),
        (answered(404), None),
        (answered(403), None),
        (ValueError("bad split"), None),
        (FileNotFoundError("no such file"), None),
    ],
)
def test_away_or_not(error: Exception, why: str | None) -> None:
    for seen in (error, wrapped(error)):
        found = why_away(seen)
        assert found is None if why is None else found is not None and found.startswith(why)
