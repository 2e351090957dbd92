"""Stages of a job as a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from secateur.contract.errors import StageFailed
from secateur.contract.jobs import State
from secateur.contract.protocol import NewStage
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_graph import extended, in_order, outcome, planned, ready, stopped
from secateur.contract.stage_kinds import STAGE_KINDS


@dataclass(frozen=True)
class Node:
    key: str
    needs: tuple[str, ...]
    state: State


def graph(**stages: str) -> list[Node]:
    """graph(a="succeeded", b="queued a"): each with its state and what it needs."""
    return [Node(key, tuple(words.split()[1:]), State(words.split()[0])) for key, words in stages.items()]


def keys(nodes: list[Any]) -> list[str]:
    return [node.key for node in nodes]


def spec(**more: Any) -> CompressionSpec:
    body = {"model": {"source": "hub", "id": "org/model"}, "pruning": {"kind": "depth", "blocks": 1}}
    return CompressionSpec.model_validate({**body, **more})


def test_a_job_has_a_stage_of_each_kind_that_it_asks_for_and_waits_for_what_it_reads() -> None:
    line = ["check", "score", "prune", "recover", "quantise", "benchmark", "report"]
    whole = planned(spec(quantise=[{"kind": "int8"}]))
    assert keys([*whole]) == keys(in_order(whole)) == line
    short = planned(spec(pruning={"kind": "depth", "drop": [1]}, recovery={"kind": "none"}))
    assert {stage.key: stage.needs for stage in short} == {
        "check": (),
        "prune": ("check",),
        "benchmark": ("check", "prune"),
        "report": ("prune", "benchmark"),
    }


def test_every_kind_reads_kinds_that_there_are() -> None:
    for kind in STAGE_KINDS.values():
        assert set(kind.reads) <= set(STAGE_KINDS)
        assert kind.name == "check" or kind.reads, "only one kind begins a job"


def test_a_stage_is_ready_when_all_that_it_needs_has_succeeded() -> None:
    stages = graph(a="succeeded", b="running", c="queued a", d="queued a b", e="queued", f="succeeded", g="queued f a")
    assert keys(ready(stages)) == ["c", "e", "g"]


def test_a_failure_stops_what_needs_it_and_nothing_else() -> None:
    stages = graph(a="failed", far="queued b", b="queued a", c="queued", d="running", e="queued d", f="succeeded a")
    assert sorted(keys(stopped(stages))) == ["b", "far"]
    assert keys(stopped(graph(a="cancelled", b="queued a"))) == ["b"]


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (graph(a="succeeded", b="succeeded"), State.SUCCEEDED),
        (graph(a="succeeded", b="cancelled", c="failed"), State.FAILED),
        (graph(a="succeeded", b="cancelled"), State.CANCELLED),
        (graph(a="failed", b="running"), None),
        (graph(a="failed", b="queued"), None),
        (graph(a="cancelled", b="cancelling"), None),
    ],
)
def test_how_a_job_ends(stages: list[Node], expected: State | None) -> None:
    assert outcome(stages) is expected


def test_the_order_is_that_of_the_needs_and_else_as_given() -> None:
    stages = graph(report="queued x y", y="queued a", a="queued", x="queued a", z="queued")
    assert keys(in_order(stages)) == ["a", "y", "x", "report", "z"]
    assert keys(in_order(graph(z="queued", a="queued", m="queued"))) == ["z", "a", "m"]
    with pytest.raises(StageFailed, match="a, b"):
        in_order(graph(a="queued b", b="queued a"))


LINE = graph(plan="running", side="running", prune="queued plan", report="queued prune side")


def test_a_stage_adds_stages() -> None:
    new = [
        NewStage(key="prune-2", kind="prune", needs=("plan",)),
        NewStage(key="bench-2", kind="benchmark", needs=("prune-2", "plan"), before=("report",)),
    ]
    after = extended(LINE, new, by="plan")
    assert keys(after) == ["plan", "side", "prune", "prune-2", "bench-2", "report"]
    needs = {stage.key: stage.needs for stage in after}
    assert needs["report"] == ("prune", "side", "bench-2")
    assert needs["bench-2"] == ("prune-2", "plan")
    assert keys(extended(LINE, [], by="plan")) == keys([*LINE])


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ([NewStage(key="prune", kind="prune")], "whose key another stage has"),
        ([NewStage(key="x", kind="prune", needs=("none",))], "names none"),
        ([NewStage(key="x", kind="prune", needs=("y",)), NewStage(key="y", kind="prune")], "names y"),
        ([NewStage(key="x", kind="prune", before=("side",))], "side would have to wait"),
        ([NewStage(key="x", kind="prune", before=("plan",))], "plan would have to wait"),
        ([NewStage(key="x", kind="prune", needs=("report",), before=("prune",))], "wait for each other"),
    ],
)
def test_what_cannot_be_added(new: list[NewStage], says: str) -> None:
    with pytest.raises(StageFailed, match=says):
        extended(LINE, new, by="plan")
