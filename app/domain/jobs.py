"""States of jobs and stages, the transitions allowed between them, and which stages a job has."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from app.domain.options import DepthPruning
from app.domain.spec import CompressionSpec


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


class StageName(StrEnum):
    """The steps of a job, in their order."""

    CHECK = "check"
    SCORE = "score"
    PRUNE = "prune"
    RECOVER = "recover"
    QUANTISE = "quantise"
    BENCHMARK = "benchmark"
    REPORT = "report"


class Verdict(StrEnum):
    """What the gates say; apart from the state, since a job that fails its gates has succeeded in its work."""

    PASSED = "passed"
    FAILED = "failed"
    NONE = "none"  # no gate was set, or there is no report yet


def stages_of(spec: CompressionSpec) -> tuple[StageName, ...]:
    """The stages that this job needs, in order.

    Every job is checked first: what cannot work is told in seconds, and not after hours. Nothing is scored where the
    blocks are named, or where pruning is not of whole blocks (other methods judge heads, neurons or halves of blocks,
    and do so while they prune), and nothing is recovered or quantised where that was not asked.
    """
    skipped = set()
    if not isinstance(spec.pruning, DepthPruning) or spec.pruning.drop is not None:
        skipped.add(StageName.SCORE)
    if spec.recovery.kind == "none":
        skipped.add(StageName.RECOVER)
    if not spec.quantise:
        skipped.add(StageName.QUANTISE)
    return tuple(name for name in StageName if name not in skipped)
