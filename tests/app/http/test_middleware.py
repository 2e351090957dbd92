"""What the edge does with a request that the server's own stop cuts off."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from app.db.threads import in_turn
from app.main import create_app
from app.settings import Settings
from tests.fixtures.live import serving


@pytest.mark.parametrize("where", ["/database", "/thread"])
def test_what_is_not_answered_when_the_service_stops_is_told_to_come_back(where: str) -> None:
    """As where the database is frozen: the thread that waits for it goes on for longer than a stop waits."""
    app = create_app(Settings(database_url=None, redis_url=None))
    at_work, thaw = threading.Event(), threading.Event()

    def frozen() -> None:
        at_work.set()
        thaw.wait(60)

    @app.get("/database")
    async def database() -> None:
        await in_turn(frozen)

    app.get("/thread")(frozen)
    with ThreadPoolExecutor(1) as client:
        try:
            with serving(app, grace_seconds=1) as url:
                asked = client.submit(httpx.get, url + where, timeout=60)
                assert at_work.wait(30)
            response = asked.result(60)
        finally:
            thaw.set()
    assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")
    assert response.headers["retry-after"] == "5"
    problem = response.json()
    assert "is being stopped" in problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
