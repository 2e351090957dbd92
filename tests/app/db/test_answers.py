"""A server that holds its connections open and answers nothing is given up, and used again when it answers."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from app.db.answers import ANSWER_SECONDS, STATEMENT_SECONDS
from app.db.news import CHANNEL
from app.db.session import is_disconnect, make_poolless_engine
from app.services import event_hub
from app.services.event_hub import EventHub


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.answers.ANSWER_SECONDS", 0.5)


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """The server's processes of these numbers stand still; for a minute at most, so that no test waits for ever."""

    def tell(number: signal.Signals) -> None:
        for pid in pids:
            os.kill(pid, number)

    thaw = threading.Timer(60, tell, [signal.SIGCONT])
    thaw.start()
    tell(signal.SIGSTOP)
    try:
        yield
    finally:
        thaw.cancel()
        tell(signal.SIGCONT)


def test_a_statement_is_given_up_later_than_the_server_ends_it() -> None:
    assert STATEMENT_SECONDS < ANSWER_SECONDS < 30  # what the clients wait for a response


def test_a_frozen_server_is_a_disconnect_and_the_pool_makes_a_new_connection(engine: Engine) -> None:
    with engine.connect() as connection:
        own = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with frozen([own]), pytest.raises(OperationalError, match="no answer from the server within") as raised:
            connection.execute(text("SELECT 1"))
    assert is_disconnect(raised.value)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != own


def test_a_question_without_a_pool_is_bounded_too(database_url: str) -> None:
    with make_poolless_engine(database_url).connect() as connection:
        own = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with frozen([own]), pytest.raises(OperationalError, match="no answer from the server within"):
            connection.execute(text("SELECT 1"))


def test_a_listening_connection_that_is_frozen_is_made_anew(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_hub, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(event_hub, "POLL_SECONDS", 0.1)
    job_id = UUID(int=7)
    plain = database_url.replace("+psycopg", "")

    def listening(watcher: psycopg.Connection[Any], *, but: int | None = None) -> int:
        ask = "SELECT pid FROM pg_stat_activity WHERE (datname, application_name) = (current_database(), %s)"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for (pid,) in watcher.execute(ask, ["secateur events"]).fetchall():
                if pid != but:
                    return int(pid)
            time.sleep(0.02)
        raise AssertionError("nobody listens")

    async def live() -> None:
        hub = EventHub(database_url, most=1)
        with psycopg.connect(plain, autocommit=True) as watcher, hub.subscribe(job_id) as subscription:
            first = await asyncio.to_thread(listening, watcher)
            with frozen([first]):
                await asyncio.to_thread(listening, watcher, but=first)
                subscription.clear()
                watcher.execute("SELECT pg_notify(%s, %s)", [CHANNEL, str(job_id)])
                assert await subscription.wait(30)
                await hub.close()

    asyncio.run(live())


def test_a_commit_that_is_not_answered(engine: Engine) -> None:
    with engine.connect() as connection:
        own = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with frozen([own]), pytest.raises(OperationalError) as raised:
            connection.commit()
    assert is_disconnect(raised.value)


def test_a_request_on_a_frozen_server_is_a_503(client: TestClient, database_url: str) -> None:
    assert client.get("/jobs").status_code == 200  # so that a connection is in the pool
    with psycopg.connect(database_url.replace("+psycopg", "")) as watcher:
        rows: list[tuple[Any, ...]] = watcher.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'secateur'"
        ).fetchall()
    assert rows
    with frozen([pid for (pid,) in rows]):
        response = client.get("/jobs")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "5"
    assert client.get("/jobs").status_code == 200
