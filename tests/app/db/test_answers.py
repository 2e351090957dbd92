"""A server that holds its connections open and answers nothing is given up, and used again when it answers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from app.db.answers import ANSWER_SECONDS, STATEMENT_SECONDS
from app.db.session import is_disconnect


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
