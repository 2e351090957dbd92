"""States of jobs and stages, and the transitions allowed between them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from secateur.contract.numbers import duration


class State(StrEnum):
    """The state of a job, and of each of its stages."""

    QUEUED = "queued"  # a row exists; nobody works on it
    RUNNING = "running"  # a worker holds the lease of a stage
    CANCELLING = "cancelling"  # a cancel was asked for; the worker is stopping the process
    SUCCEEDED = "succeeded"  # terminal: results are committed
    FAILED = "failed"  # terminal until `retry`: the problem stands on the row
    CANCELLED = "cancelled"  # terminal until `retry`

    @property
    def terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})

TRANSITIONS: Mapping[State, frozenset[State]] = {
    # claimed by a worker; or cancelled before anybody took it
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED}),
    # finished; broke; asked to stop; or back to the queue, when the worker died or shut down
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLING, State.QUEUED}),
    # the process is gone (a stage that ended before it saw the cancel is cancelled all the same)
    State.CANCELLING: frozenset({State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    # retry: a new attempt from the last checkpoint
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
}


def may_follow(before: State, after: State) -> bool:
    """Whether `before → after` is a transition of the table."""
    return after in TRANSITIONS[before]


class Verdict(StrEnum):
    """What the gates say; apart from the state, since a job that fails its gates has succeeded in its work."""

    PASSED = "passed"
    FAILED = "failed"
    NONE = "none"  # no gate was set, or there is no report yet


def waiting_in_words(
    position: int, workers: int, *, start: datetime | None = None, end: datetime | None = None, now: datetime
) -> str:
    """Where a waiting job stands, and when it is expected to go on and to be over; as sentences.

    >>> now = datetime(2026, 11, 24, 18)
    >>> waiting_in_words(3, 1, now=now)
    'It is number 3 in the queue; 1 worker is up. When it goes on and when it is over is unknown: too little like it \
has run here.'
    >>> waiting_in_words(1, 2, start=now, end=now.replace(hour=20), now=now)
    'It is the next in the queue; 2 workers are up. It is expected to go on at once and to be over in 2 h 00 min, by \
how long such stages took here.'
    """
    if workers == 0:
        return "No worker is ready for it yet: it begins when one is."
    place = "the next" if position == 1 else f"number {position:,}"
    stands = f"It is {place} in the queue; {'1 worker is' if workers == 1 else f'{workers} workers are'} up."
    if start is None:
        return f"{stands} When it goes on and when it is over is unknown: too little like it has run here."
    over = "; when it is over is unknown" if end is None else f" and to be over {_in(end, now)}"
    return f"{stands} It is expected to go on {_in(start, now)}{over}, by how long such stages took here."


def _in(moment: datetime, now: datetime) -> str:
    seconds = (moment - now).total_seconds()
    return f"in {duration(seconds)}" if seconds >= 1 else "at once"
