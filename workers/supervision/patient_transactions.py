"""Short transactions that outlast a database which is restarted, or away for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.db.session import SessionFactory, is_disconnect, unit_of_work, what_broke

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds


class GaveUp(Exception):
    """The database did not answer for as long as the caller would wait; whether the work is committed is not known."""


def persist(sessions: SessionFactory, work: Callable[[Session], T], *, give_up: Callable[[], bool]) -> T:
    """Run `work` in one transaction, again and again while the database cannot be reached.

    A connection lost during COMMIT leaves open whether it was done, so `work` must bear being done twice: everything in
    `app.db.claims` does. Raises GaveUp once `give_up` says so, after at least one try.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            with unit_of_work(sessions) as session:
                return work(session)
        except SQLAlchemyError as error:
            if not is_disconnect(error):
                raise
            if give_up():
                raise GaveUp from error
            logger.warning("%s; trying again", what_broke(error))
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
