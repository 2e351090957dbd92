"""One request's unit of work: its session, its commit, and what is to be done once that is through."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from app.db.origin import UNKNOWN, Origin

logger = logging.getLogger("app.work")


@dataclass
class Work:
    """A transaction, and the steps that wait for its commit.

    A message that went out before the commit could name a row that nobody sees yet, or never will. A step that fails
    does not fail the request, which is committed: the janitor sends what no worker claimed, and sweeps what no row
    names.
    """

    session: Session
    send_stage: Callable[[UUID], object]  # wake a worker for a stage
    origin: Origin = UNKNOWN
    _single: Connection | None = None
    _after: list[tuple[str, Callable[[], object]]] = field(default_factory=list)

    def after_commit(self, what: str, step: Callable[[], object]) -> None:
        """Do `step` after the commit; `what` names it in the log, should it fail."""
        self._after.append((what, step))

    def one_statement(self) -> Connection:
        """For one statement, which is a transaction by itself: no trips to begin and to end one around it, no mapper.

        Reads before it, each with a snapshot of its own, do no harm where it does not build on them.
        """
        if self._single is None:
            connection = self.session.get_bind().engine.connect()
            self._single = connection.execution_options(isolation_level="AUTOCOMMIT")
        return self._single

    @property
    def open(self) -> bool:
        """Whether there is anything to commit; a session takes a connection with its first query."""
        return self.session.in_transaction() or self._single is not None or bool(self._after)

    def commit(self) -> None:
        """Commit, give the connection back, and take the steps, each whether or not another failed."""
        if self.session.in_transaction():
            self.session.commit()
        self._close_single()
        for what, step in self._after:
            try:
                step()
            except Exception:
                logger.warning("after commit: %s failed", what, exc_info=True)
        self._after.clear()

    def close(self) -> None:
        """Give back what is still held, after a rollback if there was anything to roll back. It does not wait."""
        self._close_single()
        self.session.close()

    def _close_single(self) -> None:
        if self._single is not None:
            self._single.close()
            self._single = None
