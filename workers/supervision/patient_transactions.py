"""Short transactions that outlast a database which is restarted, or away for a while."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception, wait_exponential_jitter

from app.db.session import SessionFactory, is_disconnect, unit_of_work, what_broke

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds
JITTER = 0.1  # seconds: not all workers come back to a database in the same moment


class GaveUp(Exception):
    """The database did not answer for as long as the caller would wait; whether the work is committed is not known."""


def transact_patiently(sessions: SessionFactory, work: Callable[[Session], T], *, give_up: Callable[[], bool]) -> T:
    """Run `work` in one transaction, again and again while the database cannot be reached.

    A connection lost during COMMIT leaves open whether it was done, so `work` must bear being done twice: everything in
    `app.db.claims` does. Raises GaveUp once `give_up` says so, after at least one try.
    """

    def once() -> T:
        with unit_of_work(sessions) as session:
            return work(session)

    patient = Retrying(
        retry=retry_if_exception(is_disconnect),
        stop=lambda _: give_up(),
        wait=wait_exponential_jitter(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE, jitter=JITTER),
        before_sleep=_tell,
    )
    try:
        return patient(once)
    except RetryError as error:
        raise GaveUp from error.last_attempt.exception()


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, SQLAlchemyError)
    logger.warning("%s; trying again", what_broke(error))
