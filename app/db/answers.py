"""Connections that give up a server which does not answer.

The server ends statements that take too long (`statement_timeout`), and the system notices a network that is gone. A
server that is frozen (SIGSTOP, a suspended machine, a disk that hangs) does neither: its kernel acknowledges what is
sent, and nobody ever answers. So the client's side of a statement has a bound as well.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.errors import _WaitTimeout

STATEMENT_SECONDS = 20  # for which the server works on one statement
ANSWER_SECONDS = (
    STATEMENT_SECONDS + 5.0
)  # for which it is waited for: below what callers of the API wait for a response


class AnsweredConnection(psycopg.Connection[Any]):
    """A connection that is closed, with an OperationalError, where an answer takes longer than any statement may."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """As in the base class; what has a bound of its own keeps it."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, ANSWER_SECONDS)
        except _WaitTimeout:
            self.close()
            raise _no_answer() from None


class AnsweredAsyncConnection(psycopg.AsyncConnection[Any]):
    """The same on an event loop."""

    async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """As in the base class; what has a bound of its own keeps it."""
        if timeout is not None:
            return await super().wait(gen, interval, timeout)
        try:
            return await super().wait(gen, interval, ANSWER_SECONDS)
        except _WaitTimeout:
            await self.close()
            raise _no_answer() from None


def _no_answer() -> psycopg.OperationalError:
    return psycopg.OperationalError(f"no answer from the server within {ANSWER_SECONDS:.0f} s")
