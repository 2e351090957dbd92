"""Who follows a job is told after the commit, and what cannot be told is no trouble of who committed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from app.db import events, jobs, news
from app.db.session import SessionFactory, unit_of_work
from app.db.tables.jobs import Job
from tests.fixtures.job_rows import insert


@pytest.fixture
def job(sessions: SessionFactory) -> Job:
    with unit_of_work(sessions) as session:
        return insert(session)


@pytest.fixture
def listener(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"LISTEN {news.CHANNEL}".encode())
        yield connection


def heard(listener: psycopg.Connection[Any], *, wait: float = 30, most: int | None = None) -> list[str]:
    """The ids that were told, as soon as there are `most`."""
    return [told.payload for told in listener.notifies(timeout=wait, stop_after=most)]


def test_it_is_told_once_per_job_and_behind_the_commit(
    sessions: SessionFactory, job: Job, listener: psycopg.Connection[Any]
) -> None:
    order: list[str] = []
    engine: Engine = sessions.kw["bind"]
    event.listen(engine, "commit", lambda *_: order.append("commit"))
    event.listen(engine, "before_cursor_execute", lambda *given: order.append(given[2]))
    with unit_of_work(sessions) as session:
        for number in range(3):
            events.append(session, job.id, [events.log(str(number))])
    committed = order.index("commit")
    assert not any("pg_notify" in statement for statement in order[:committed])
    assert sum("pg_notify" in statement for statement in order[committed:]) == 1
    assert heard(listener, most=1) == [str(job.id)]


def test_what_is_rolled_back_is_no_news(sessions: SessionFactory, job: Job, listener: psycopg.Connection[Any]) -> None:
    with sessions() as session:
        with session.begin() as transaction:
            events.append(session, job.id, [events.log("lost")])
            transaction.rollback()
        events.append(session, job.id, [events.log("never committed")])
        session.close()
        with session.begin(), session.begin_nested():
            pass
        assert heard(listener, wait=0.1) == []
        with session.begin():
            with session.begin_nested():
                events.append(session, job.id, [events.log("in a savepoint")])
            assert heard(listener, wait=0.1) == [], "the transaction goes on"
    assert heard(listener, most=1) == [str(job.id)]


def test_a_connection_that_cannot_be_had_for_it_changes_nothing(
    sessions: SessionFactory, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Engine = sessions.kw["bind"]

    def refuse(*given: Any) -> None:
        if "pg_notify" in given[2]:
            raise OperationalError("told", None, Exception("gone"))

    event.listen(engine, "before_cursor_execute", refuse)
    with unit_of_work(sessions) as session:
        events.append(session, job.id, [events.log("kept")])
    with unit_of_work(sessions) as session:
        assert events.after(session, job.id, types=["log"])[-1].data == {"message": "kept"}
        assert jobs.get(session, job.id).last_event_seq == 2


def test_a_committed_transaction_holds_no_connection_while_it_tells(sessions: SessionFactory, job: Job) -> None:
    """Else as many threads as there are connections would each hold one and wait for another."""
    engine: Engine = sessions.kw["bind"]
    held: list[int] = []

    def count(*given: Any) -> None:
        if "pg_notify" in given[2]:
            held.append(engine.pool.checkedout())  # type: ignore[attr-defined]  # of a QueuePool

    event.listen(engine, "before_cursor_execute", count)
    with unit_of_work(sessions) as session:
        events.append(session, job.id, [events.log("x")])
    assert held == [1]
