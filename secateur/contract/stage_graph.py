"""The stages of one job: what each waits for, which are ready, what stops with one that fails, how the job ends.

A stage has a key that is its own within the job, and needs others, by their keys; it is ready when all of them have
succeeded. Several may be ready at once, and a job may have several stages of one kind. A stage may name stages that the
job gets with its result.

Pure rules: on rows of the database as on anything that has a key, needs and a state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from secateur.contract.errors import StageFailed
from secateur.contract.jobs import State
from secateur.contract.protocol import NewStage
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import STAGE_KINDS, read_by


class Node(Protocol):
    """What has a place in the graph."""

    @property
    def key(self) -> str: ...

    @property
    def needs(self) -> Sequence[str]: ...


class Stage(Node, Protocol):
    """A node that is being worked on."""

    @property
    def state(self) -> State: ...


N = TypeVar("N", bound=Node)
S = TypeVar("S", bound=Stage)


@dataclass(frozen=True)
class PlannedStage:
    """A stage that a job is to have."""

    key: str
    kind: str
    needs: tuple[str, ...]


def planned(spec: CompressionSpec) -> tuple[PlannedStage, ...]:
    """The stages that this job begins with: one of each kind that it asks for, called like its kind."""
    asked = [kind for kind in STAGE_KINDS.values() if kind.asked(spec)]
    return tuple(PlannedStage(kind.name, kind.name, read_by(kind, spec)) for kind in asked)


def ready(stages: Collection[S]) -> list[S]:
    """Those that have not begun and need nothing that has not succeeded."""
    done = {stage.key for stage in stages if stage.state is State.SUCCEEDED}
    return [stage for stage in stages if stage.state is State.QUEUED and done.issuperset(stage.needs)]


def stopped(stages: Collection[S]) -> list[S]:
    """Those that have not begun and never will, since something that they need has failed or was cancelled."""
    lost = {stage.key for stage in stages if stage.state in {State.FAILED, State.CANCELLED}}
    found = []
    for stage in in_order(stages):
        if stage.state is State.QUEUED and not lost.isdisjoint(stage.needs):
            lost.add(stage.key)
            found.append(stage)
    return found


def outcome(stages: Iterable[Stage]) -> State | None:
    """How a job with these stages has ended; None while one of them is not over."""
    states = {stage.state for stage in stages}
    if not all(state.terminal for state in states):
        return None
    return next((state for state in (State.FAILED, State.CANCELLED) if state in states), State.SUCCEEDED)


def in_order(stages: Iterable[N]) -> list[N]:
    """Each after all that it needs, and else as they are given.

    Raises:
        StageFailed: they need each other in a circle, or one needs what is not there.
    """
    left, taken = list(stages), dict[str, N]()
    while left:
        following = next((node for node in left if all(key in taken for key in node.needs)), None)
        if following is None:
            raise StageFailed(f"These stages wait for each other, or for none: {', '.join(node.key for node in left)}.")
        taken[following.key] = following
        left.remove(following)
    return list(taken.values())


def extended(stages: Sequence[Stage], new: Sequence[NewStage], *, by: str) -> list[PlannedStage]:
    """The job's stages, in order, with those that the stage `by` adds.

    Raises:
        StageFailed: a key is taken, a stage is named that is not there, one that may have begun already would have to
            wait for a new one, or they would wait for each other.
    """
    nodes = {stage.key: PlannedStage(stage.key, "", tuple(stage.needs)) for stage in stages}
    waiting = {node.key for node in behind(nodes.values(), by)}
    for stage in new:
        unknown = [key for key in (*stage.needs, *stage.before) if key not in nodes]
        begun = [key for key in stage.before if key in nodes and key not in waiting]
        problem = (
            "whose key another stage has"
            if stage.key in nodes
            else f"which names {', '.join(unknown)}, and the job has no such stage"
            if unknown
            else f"for which {', '.join(begun)} would have to wait, and need not wait for {by}"
            if begun
            else None
        )
        if problem is not None:
            raise StageFailed(f"The stage {by} adds the stage {stage.key}, {problem}.")
        nodes[stage.key] = PlannedStage(stage.key, stage.kind, stage.needs)
        waiting.add(stage.key)
        for key in stage.before:
            nodes[key] = PlannedStage(key, nodes[key].kind, (*nodes[key].needs, stage.key))
    return in_order(nodes.values())


def behind(stages: Iterable[N], key: str) -> Iterator[N]:
    """Those that need the stage, directly or not, in order."""
    found = {key}
    for node in in_order(stages):
        if not found.isdisjoint(node.needs):
            found.add(node.key)
            yield node
