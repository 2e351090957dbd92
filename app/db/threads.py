"""Work with the database off the event loop: as much at a time as there are connections, and no wait without an end.

What waits for its turn holds neither a thread nor a place in the pool. Where the database is frozen, each of those at
work is given up after `ANSWER_SECONDS` and the next one begins; a crowd that came meanwhile is not kept for its turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from anyio import CapacityLimiter, fail_after, to_thread
from anyio.lowlevel import RunVar

from secateur.contract.errors import Unavailable

T = TypeVar("T")

POOL_SIZE = 10  # database connections of one API process; as many requests work at a time, the rest wait
TURN_SECONDS = 10.0  # for a turn; with what follows below what callers of the API wait for a response


@dataclass(frozen=True)
class _Turns:
    taken: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(POOL_SIZE))
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(math.inf))  # who has a turn has one


_turns: RunVar[_Turns] = RunVar("database_turns")  # one for each event loop, and a process has one


async def in_turn(work: Callable[[], T]) -> T:
    """Do this in a thread, once it is its turn.

    Raises:
        Unavailable: that took too long.
    """
    turns = _turns.get(None)
    if turns is None:
        turns = _Turns()
        _turns.set(turns)
    turn = object()
    try:
        with fail_after(TURN_SECONDS):
            await turns.taken.acquire_on_behalf_of(turn)
    except TimeoutError:
        raise Unavailable(
            f"the database is busy: nothing came free within {TURN_SECONDS:.0f} s", headers={"Retry-After": "5"}
        ) from None
    try:
        return await to_thread.run_sync(work, limiter=turns.threads)
    finally:
        turns.taken.release_on_behalf_of(turn)
