"""A request's unit of work."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.db.session import SessionFactory, make_engine, make_session_factory
from app.services.work import Work
from app.settings import Settings

ADD = text("INSERT INTO job_counts (state, change) VALUES ('queued', 41) RETURNING change")
COUNT = text("SELECT count(*) FROM job_counts WHERE change = 41")


@pytest.fixture
def one_connection(database_url: str) -> Iterator[SessionFactory]:
    """A pool of one connection: what a unit of work does to it, or does not give back, the next one finds."""
    engine = make_engine(database_url, pool_size=1, max_overflow=0)
    try:
        yield make_session_factory(engine)
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM job_counts WHERE change = 41"))
    finally:
        engine.dispose()


def work_on(factory: SessionFactory) -> Work:
    return Work(Settings(), factory, print)


def counted(factory: SessionFactory) -> int:
    with factory() as session:
        return int(session.scalar(COUNT) or 0)


def test_one_statement_stands_by_itself_and_leaves_its_connection_as_it_was(one_connection: SessionFactory) -> None:
    with work_on(one_connection) as work:
        work.one_statement().execute(ADD)
    assert counted(one_connection) == 1

    with pytest.raises(DBAPIError), work_on(one_connection) as work:
        work.one_statement().execute(text("SELECT 1 / 0"))

    with work_on(one_connection) as work:
        work.session.execute(ADD)
        work.session.rollback()  # the connection has transactions again
        assert work.session.scalar(COUNT) == 1


def test_what_was_done_is_committed_at_the_end_and_the_steps_are_taken_after_it(one_connection: SessionFactory) -> None:
    seen: list[int] = []
    with work_on(one_connection) as work:
        work.session.execute(ADD)
        work.after_commit("looking", lambda: seen.append(counted(one_connection)))  # on the connection that came back
        assert seen == []
    assert seen == [1]


def test_what_is_raised_in_it_takes_back_what_was_done_and_no_step_is_taken(one_connection: SessionFactory) -> None:
    seen: list[int] = []

    def break_off() -> None:
        with work_on(one_connection) as work:
            work.session.execute(ADD)
            work.after_commit("looking", lambda: seen.append(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert counted(one_connection) == 0
    assert seen == []


def test_a_step_that_fails_keeps_no_other_from_being_taken(one_connection: SessionFactory) -> None:
    sent = []
    with work_on(one_connection) as work:
        work.after_commit("failing", lambda: 1 / 0)
        work.after_commit("sending", lambda: sent.append(uuid4()))
    assert len(sent) == 1


def test_it_is_of_no_use_outside_its_block(one_connection: SessionFactory) -> None:
    """An operation that is no `transaction` would never be committed, and would keep its connection."""
    work = work_on(one_connection)
    for use in (lambda: work.session, work.one_statement):
        with pytest.raises(RuntimeError, match="outside"):
            use()
    with work:
        assert work.session.scalar(COUNT) == 0
    for use in (lambda: work.session, work.one_statement):
        with pytest.raises(RuntimeError, match="outside"):
            use()
