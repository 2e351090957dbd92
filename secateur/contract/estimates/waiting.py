"""When a job that waits is expected to begin, and when to end: by what lies before it, and by past stages' times.

Workers take the stages of jobs that have begun before the first stages of others, so what has to be done before a job
that has not begun is all that is left of those that have, and the jobs that stand before it in the queue. It begins
when the workers have done that together, or at once where one of them is free. Results that are taken over from
identical stages end at once, so sweeps are mostly over earlier than that.

A stage takes as long as the median of the newest ones of its kind did, on the same model where there are such.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Work = tuple[str, str]  # the kind of a stage, and its job's model
Times = Mapping[Work, float]  # seconds; what is not in it has not run here


@dataclass(frozen=True)
class Held:
    """A stage that a worker runs."""

    work: Work
    elapsed: float  # seconds


@dataclass(frozen=True)
class Load:
    """What a job waits behind."""

    position: int  # in the queue; 1: next
    slots: int  # stages that all workers run at a time
    has_begun: bool
    left: Sequence[Work]  # of the job itself
    held: Sequence[Held]
    begun: Sequence[Work]  # stages that nobody runs yet, of other jobs that have begun
    turns: int  # how many of them wait for a worker
    fresh: Sequence[Sequence[Work]]  # some jobs that have not begun, each with its stages


@dataclass(frozen=True)
class Expected:
    """Seconds from now; None where nothing of a kind has run here, or no worker is up."""

    start: float | None = None
    end: float | None = None


def expected(load: Load, times: Times) -> Expected:
    """When the job is expected to begin, or to go on, and to end."""
    if load.slots == 0:
        return Expected()
    start, whole = _start(load, times), _sum(load.left, times)
    return Expected(start, None if start is None or whole is None else start + whole)


def _start(load: Load, times: Times) -> float | None:
    before = load.position - 1
    begun = min(before, load.turns)
    fresh = 0 if load.has_begun else before - begun
    if len(load.held) + begun + fresh < load.slots:
        return 0.0
    held = [None if held.work not in times else max(0.0, times[held.work] - held.elapsed) for held in load.held]
    rest = _sum(load.begun, times)
    if rest is not None and load.has_begun:  # of stages and not of whole jobs
        rest = begun * rest / max(1, len(load.begun))
    jobs = [_sum(stages, times) for stages in load.fresh]
    known = [seconds for seconds in jobs if seconds is not None]
    if (fresh and len(known) < len(jobs)) or (fresh and not known) or rest is None or None in held:
        return None
    whole = sum(seconds for seconds in held if seconds is not None) + rest
    if fresh:
        whole += fresh * sum(known) / len(known)
    return whole / load.slots


def _sum(stages: Iterable[Work], times: Times) -> float | None:
    found = [times.get(work) for work in stages]
    return None if None in found else sum(seconds for seconds in found if seconds is not None)
