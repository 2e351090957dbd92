"""A request's unit of work."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.db.session import make_engine, make_session_factory
from app.services.work import Work


def test_one_statement_stands_by_itself_and_leaves_its_connection_as_it_was(database_url: str) -> None:
    """The pool has one connection: what one unit of work does to it, the next one finds."""
    engine = make_engine(database_url, pool_size=1, max_overflow=0)
    factory = make_session_factory(engine)
    add = text("INSERT INTO job_counts (state, change) VALUES ('queued', 41) RETURNING change")
    count = text("SELECT count(*) FROM job_counts WHERE change = 41")
    try:
        work = Work(factory(), print)
        assert not work.open
        work.one_statement().execute(add)
        assert work.open
        work.close()  # nothing was left to commit
        assert not work.open

        broken = Work(factory(), print)
        with pytest.raises(DBAPIError):
            broken.one_statement().execute(text("SELECT 1 / 0"))
        broken.close()

        whole = Work(factory(), print)
        whole.session.execute(add)
        whole.session.rollback()
        assert whole.session.scalar(count) == 1
        whole.session.execute(text("DELETE FROM job_counts WHERE change = 41"))
        whole.commit()
        whole.close()
    finally:
        engine.dispose()
