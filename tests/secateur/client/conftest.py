"""Each of the two clients, in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.fixtures.scripted_service import Fake


@pytest.fixture(params=["sync", "async"])
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Runner | None]:
    """`Fake.client` gives the one client and then the other; this is the event loop of the one that needs it."""
    monkeypatch.setattr(Fake, "runner", None)
    if request.param == "sync":
        yield None
        return
    with asyncio.Runner() as runner:
        monkeypatch.setattr(Fake, "runner", runner)
        yield runner
