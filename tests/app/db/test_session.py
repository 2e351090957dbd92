"""What a database error means: that nobody answered, or that a query was wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import SQLAlchemyError

from app.db.answers import STATEMENT_SECONDS
from app.db.session import is_disconnect, make_engine, what_broke
from app.db.tables.jobs import Stage


def error_of(engine: Engine, work: Callable[[Any], object]) -> SQLAlchemyError:
    with pytest.raises(SQLAlchemyError) as raised, engine.begin() as connection:
        work(connection)
    return raised.value


def test_more_parameters_than_the_protocol_counts_is_no_disconnect(engine: Engine) -> None:
    query, many = f"SELECT ARRAY[{', '.join(['%s'] * 65_536)}]", (1,) * 65_536
    error = error_of(engine, lambda connection: connection.exec_driver_sql(query, many))
    assert not is_disconnect(error)
    assert "between 0 and 65535" in what_broke(error)


def test_a_query_against_another_schema_is_no_disconnect(engine: Engine) -> None:
    def query(connection: Any) -> None:
        connection.execute(text("DROP TABLE stages"))
        connection.execute(select(Stage.id))

    error = error_of(engine, query)
    assert not is_disconnect(error)
    assert 'refused a query: relation "stages" does not exist' in what_broke(error)


def test_nobody_there() -> None:
    error = error_of(make_engine("postgresql://nobody@127.0.0.1:9/none"), lambda connection: None)
    assert is_disconnect(error)
    assert what_broke(error) == "the database could not be reached (OperationalError)"


def test_a_connection_that_was_cut(engine: Engine) -> None:
    def cut(connection: Any) -> None:
        own = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with engine.begin() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": own})
        connection.execute(text("SELECT 1"))

    error = error_of(engine, cut)
    assert is_disconnect(error)
    assert "ended a transaction: terminating connection" in what_broke(error)


def test_a_statement_that_takes_too_long(engine: Engine) -> None:
    def slow(connection: Any) -> None:
        connection.execute(text("SET LOCAL statement_timeout = 1"))
        connection.execute(text("SELECT pg_sleep(5)"))

    error = error_of(engine, slow)
    assert is_disconnect(error)
    assert what_broke(error).startswith("the database ended a transaction: canceling statement")


def test_a_pool_that_is_used_up(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.session.POOL_SECONDS", 0.01)
    small = make_engine(database_url, pool_size=1, max_overflow=0)
    with small.connect():
        error = error_of(small, lambda connection: None)
    small.dispose()
    assert is_disconnect(error)
    assert "came free within 0.01 seconds" in what_broke(error)


def test_a_server_that_does_not_acknowledge_is_given_up_with_its_statements(engine: Engine) -> None:
    """Where the network is gone in the middle of a query, nobody says so; the system would try for a quarter hour."""
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        assert driver.info.get_parameters()["tcp_user_timeout"] == str(1000 * STATEMENT_SECONDS)
