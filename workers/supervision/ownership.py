"""Whose a store or a host's scratch is: only its own database may say that nobody needs what lies there.

A worker with a wrong address, or with a database that was made anew, knows none of the files that it finds, and to a
sweep they would all be left over. So the first database that uses a place puts its id there, as the file `owner`.
A place without the file is taken where it is empty, or holds something that the database knows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar
from uuid import UUID

from app.blobs.store import OWNER

logger = logging.getLogger(__name__)

LOOKED_AT = 1000  # of what lies there

T = TypeVar("T")


def is_ours(
    place: str,
    installation: UUID,
    *,
    read: Callable[[], str | None],
    mark: Callable[[str], None],
    found: Iterable[T],
    known: Callable[[list[T]], bool],
) -> bool:
    """Whether what lies at `place` may be deleted by what the database `installation` knows; takes a free place.

    Args:
        read: the place's mark, None where it has none.
        mark: puts one there.
        found: what lies there.
        known: whether the database knows one of them.
    """
    ours, owner = str(installation), read()
    if owner is None:
        some = list(islice(found, LOOKED_AT))
        if some and not known(some):
            logger.warning(
                "%s holds files, and the database of this worker knows none of them: nothing is deleted there. Is "
                "SECATEUR_DATABASE_URL right? If the files are to be judged by this database, write its id, %s, into "
                "the file `%s` there",
                place,
                ours,
                OWNER,
            )
            return False
        mark(ours)
        owner = read()  # another database may have been quicker
    if owner != ours:
        logger.warning(
            "%s belongs to another database (%s) than that of this worker (%s): nothing is deleted there. If this "
            "one has taken its place, write its id into the file `%s` there",
            place,
            owner,
            ours,
            OWNER,
        )
    return owner == ours
