"""Engine, sessions and the unit of work: one short transaction, committed at its edge.

API and workers share this layer. Transactions are short by rule, and the server is told so: one that sits idle for
longer than `IDLE_TRANSACTION_SECONDS` is ended by Postgres, so that a process which was stopped in the middle of one
(SIGSTOP, a suspended machine) cannot hold a job's row against the rest of the service.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    InvalidatePoolError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from app.db.answers import STATEMENT_SECONDS, AnsweredConnection
from app.db.news import tell_after_commits
from app.settings import Settings, get_settings
from secateur.contract.errors import Unavailable

TRUSTED_SECONDS = 15.0  # since its last use, a connection on which the server has said nothing is taken for alive
POOL_SECONDS = 10
IDLE_TRANSACTION_SECONDS = 15

SessionFactory = sessionmaker[Session]
Database = Session | Connection  # for statements that are written out, and need no mapper


def sqlalchemy_url(database_url: str) -> URL:
    """`postgresql://…` as SQLAlchemy wants it, with the psycopg 3 driver. ValueError for anything else."""
    try:
        url = make_url(database_url)
    except ArgumentError as error:
        raise ValueError("the database URL cannot be read; expected postgresql://user:password@host/name") from error
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise ValueError(f"the database URL begins with {url.get_backend_name()}://; expected postgresql://")
    return url.set(drivername="postgresql+psycopg")


def make_engine(database_url: str, *, pool_size: int = 5, max_overflow: int = 10) -> Engine:
    """An engine whose connections are checked before use and give up rather than hang."""
    engine = _bounded_engine(
        database_url, pool_size=pool_size, max_overflow=max_overflow, pool_timeout=POOL_SECONDS, pool_recycle=1800
    )
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", partial(_check, engine))
    return engine


def make_poolless_engine(database_url: str) -> Engine:
    """The same without a pool: for a question now and then, that what keeps requests waiting must not delay."""
    return _bounded_engine(database_url, poolclass=NullPool)


def _bounded_engine(database_url: str, **pool: Any) -> Engine:
    engine = create_engine(
        sqlalchemy_url(database_url),
        connect_args={
            "connect_timeout": 5,
            "application_name": "secateur",
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 1000 * STATEMENT_SECONDS,  # keepalives are silent while something sent is not answered
            "options": (
                f"-c statement_timeout={STATEMENT_SECONDS}s"
                f" -c idle_in_transaction_session_timeout={IDLE_TRANSACTION_SECONDS}s"
                " -c timezone=UTC"
            ),
        },
        **pool,
    )
    event.listen(engine, "do_connect", _connect)
    return engine


def _connect(dialect: object, record: object, arguments: list[Any], named: dict[str, Any]) -> AnsweredConnection:
    return AnsweredConnection.connect(*arguments, **named)


def _note_use(connection: Any, record: ConnectionPoolEntry) -> None:
    record.info["used"] = time.monotonic()


def _check(engine: Engine, connection: Any, record: ConnectionPoolEntry, _: object) -> None:
    """Ask a connection that may be dead whether it is, and have the pool make a new one then.

    A server that stops or ends a session says so, and closes it: there is something to read. Without it and on a
    connection that was used just now, the question would only cost a trip to the server, one of the few of a request.
    """
    used = record.info.get("used")
    if used is None:
        return  # new
    try:
        if time.monotonic() - used >= TRUSTED_SECONDS or _has_word(connection):
            engine.dialect.do_ping(connection)
    except engine.dialect.loaded_dbapi.Error as error:
        raise InvalidatePoolError from error


def _has_word(connection: Any) -> bool:
    """Whether the server has sent something that nobody asked for."""
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return bool(waiting.poll(0))


def make_session_factory(engine: Engine) -> SessionFactory:
    """Sessions whose rows stay readable after commit, outside any transaction, and that tell what they committed."""
    sessions = sessionmaker(engine, expire_on_commit=False)
    tell_after_commits(sessions)
    return sessions


@lru_cache(maxsize=4)
def _factory_for(database_url: str, pool_size: int) -> SessionFactory:
    return make_session_factory(make_engine(database_url, pool_size=pool_size))


def session_factory(settings: Settings | None = None, *, pool_size: int = 5) -> SessionFactory:
    """The process's session factory for these settings; one pool for each database.

    Raises Unavailable if no database is configured.
    """
    settings = settings or get_settings()
    if settings.database_url is None:
        raise Unavailable(
            "no database is configured: set SECATEUR_DATABASE_URL to postgresql://…, "
            "or run `secateur up`, which starts a private one"
        )
    return _factory_for(settings.database_url, pool_size)


@contextmanager
def unit_of_work(factory: SessionFactory | None = None) -> Iterator[Session]:
    """One transaction: committed if the block ends, rolled back if it raises."""
    with (factory or session_factory())() as session, session.begin():
        yield session


def is_disconnect(error: BaseException) -> bool:
    """Whether this error means that the database could not be reached or went away, so that trying again may help.

    Also true when the server ended the transaction to keep others going (deadlock, serialisation, a time-out, a
    shutdown): nothing was committed then, except that a connection lost during COMMIT leaves it open. And where no
    connection of the pool came free in time.
    """
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        # no answer from a server: while connecting, the database is away; of a query on a connection that still
        # stands, the driver could not send it, and would not the next time
        return error.statement is None and isinstance(error, OperationalError | InterfaceError)
    # 08 connection, 25 idle too long, 40 rolled back, 53 resources, 55 locks, 57 time-out or shutdown
    return state[:2] in {"08", "25", "40", "53", "55", "57"}


def what_broke(error: SQLAlchemyError) -> str:
    """What a log says of a database error: that nobody answered, or what was wrong with a query."""
    if isinstance(error, PoolTimeout):
        return f"no connection to the database came free within {POOL_SECONDS} seconds"
    first = (str(getattr(error, "orig", None) or error).splitlines() or [""])[0]
    if not is_disconnect(error):
        return f"the database or its driver refused a query: {first} ({type(error).__name__})"
    if getattr(getattr(error, "orig", None), "sqlstate", None) is None:
        return f"the database could not be reached ({type(error).__name__})"
    return f"the database ended a transaction: {first}"
