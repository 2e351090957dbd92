"""One request's unit of work: its session, its commit, and what is to be done once that is through."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from app.db.origin import UNKNOWN, Origin
from app.db.session import SessionFactory
from app.settings import Settings

logger = logging.getLogger("app.work")


@dataclass
class Work:
    """A transaction, and the steps that wait for its commit: what a `with` block is committed or rolled back as.

    A message that went out before the commit could name a row that nobody sees yet, or never will. A step that fails
    does not fail the request, which is committed: the janitor sends what no worker claimed, and sweeps what no row
    names.
    """

    settings: Settings
    factory: SessionFactory
    send_stage: Callable[[UUID], object]  # wake a worker for a stage
    origin: Origin = UNKNOWN
    _begun: bool = False
    _session: Session | None = None
    _single: Connection | None = None
    _after: list[tuple[str, Callable[[], object]]] = field(default_factory=list)

    @property
    def session(self) -> Session:
        """The session; it takes a connection with its first query."""
        self._check_begun()
        if self._session is None:
            self._session = self.factory()
        return self._session

    def one_statement(self) -> Connection:
        """For one statement, which is a transaction by itself: no trips to begin and to end one around it, no mapper.

        Reads before it, each with a snapshot of its own, do no harm where it does not build on them.
        """
        self._check_begun()
        if self._single is None:
            connection = self.factory.kw["bind"].connect()
            self._single = connection.execution_options(isolation_level="AUTOCOMMIT")
        return self._single

    def after_commit(self, what: str, step: Callable[[], object]) -> None:
        """Do `step` after the commit; `what` names it in the log, should it fail."""
        self._after.append((what, step))

    def __enter__(self) -> Self:
        self._begun = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Commit, or roll back what was raised in; give the connection back; take the steps of what is committed."""
        self._begun = False
        try:
            if kind is None and self._session is not None:
                self._session.commit()
        finally:
            if self._single is not None:
                self._single.close()
            if self._session is not None:
                self._session.close()
        if kind is None:
            self._take_steps()

    def _take_steps(self) -> None:
        """Each of them, whether or not another failed."""
        for what, step in self._after:
            try:
                step()
            except Exception:
                logger.warning("after commit: %s failed", what, exc_info=True)

    def _check_begun(self) -> None:
        if not self._begun:
            raise RuntimeError("a unit of work is used outside its `with` block")
