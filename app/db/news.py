"""Who follows a job is told that there is news of it, when that is committed and not with it.

PostgreSQL commits transactions that notify one after the other, each with its wait for the disk. So nothing that is
written notifies; when a session has committed, one statement does, which writes nothing and waits for no disk. Between
the two a process may die, or its connection: the news is there all the same, and whoever follows the job finds it when
it looks by itself, as it does when it has heard nothing for a while (`app/services/events.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker

logger = logging.getLogger(__name__)

CHANNEL = "secateur_events"
_NEWS, _COMMITTED = "news of jobs", "committed news of jobs"  # in a session's `info`
_TELL = text("SELECT pg_notify(:channel, job) FROM unnest(CAST(:jobs AS text[])) AS job")


def note(session: Session, job_id: UUID) -> None:
    """There is news of the job, once this is committed."""
    session.info.setdefault(_NEWS, set()).add(job_id)


def tell_after_commits(sessions: sessionmaker[Session]) -> None:
    """Have the sessions of this factory tell what was noted in them."""
    event.listen(sessions, "after_commit", _committed)
    event.listen(sessions, "after_transaction_end", _ended)


def _committed(session: Session) -> None:
    if session.get_nested_transaction() is None:  # and not a savepoint alone
        session.info[_COMMITTED] = session.info.pop(_NEWS, ())


def _ended(session: Session, transaction: SessionTransaction) -> None:
    """The connection has been given back, so that nobody holds one and waits for another."""
    if transaction.parent is not None:
        return
    session.info.pop(_NEWS, None)  # what was not committed is none
    news = session.info.pop(_COMMITTED, ())
    if news:
        _tell(session.get_bind().engine, news)


def _tell(engine: Engine, jobs: Collection[UUID]) -> None:
    try:
        with engine.connect() as connection:
            single: Connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            single.execute(_TELL, {"channel": CHANNEL, "jobs": [str(job_id) for job_id in jobs]})
    except SQLAlchemyError as error:
        logger.info("nobody was told of news that is committed (%s); who follows it looks again", type(error).__name__)
