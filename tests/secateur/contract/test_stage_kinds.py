"""Each row of the kinds of stage: which jobs have one, what of the spec its result depends on, and what it needs."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import STAGE_KINDS, StageKind, doing, kinds_of, read_by

DRAFT: dict[str, Any] = {"use": "draft", "target_model": {"source": "hub", "id": "org/large"}}
ALWAYS = {"check", "prune", "benchmark", "report"}


def spec(**changes: Any) -> CompressionSpec:
    settled = {"model": {"source": "hub", "id": "org/m"}, "pruning": {"kind": "depth", "blocks": 2}}
    return CompressionSpec.model_validate({**settled, "recovery": {"kind": "none"}, **changes})


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({}, {"score"}),
        ({"pruning": {"kind": "depth", "ratio": 0.2}}, {"score"}),
        ({"pruning": {"kind": "depth", "drop": [3]}}, set()),
        ({"pruning": {"kind": "wanda_sp", "ratio": 0.2}}, set()),
        ({"pruning": {"kind": "sub_block", "units": 2}}, set()),
        ({"pruning": {"kind": "joint", "target": {"parameters": 0.8}}}, set()),
        ({"pruning": {"kind": "joint", "target": {"speedup": 1.3}}}, {"costs"}),
        ({"pruning": {"kind": "depth", "target": {"parameters": 0.8}}}, {"score"}),
        ({"pruning": {"kind": "depth", "target": {"speedup": 1.3}}}, {"plan", "score", "correct"}),
        ({"pruning": {"kind": "depth", "constraints": {"max_kl": 0.3}}}, {"score", "search"}),
        ({"scoring": {"after_healing": True}, "recovery": {"kind": "lora"}}, {"score", "choose", "recover"}),
        ({**DRAFT, "pruning": {"kind": "depth"}}, {"score", "draft"}),
        (DRAFT, {"score"}),
        ({"recovery": {"kind": "lora"}}, {"score", "recover"}),
        ({"recovery": {"kind": "distill"}}, {"score", "recover"}),
        ({"recovery": {"kind": "distill"}, "sizes": {}}, {"score", "recover", "sizes"}),
        ({"quantise": [{"kind": "int8"}]}, {"score", "quantise"}),
    ],
)
def test_the_kinds_that_a_job_asks_for(changes: dict[str, Any], more: set[str]) -> None:
    kinds = kinds_of(spec(**changes))
    assert set(kinds) == ALWAYS | more
    assert list(kinds) == [name for name in STAGE_KINDS if name in kinds], "in the order of the table"


def having(what: str) -> set[str]:
    return {name for name, kind in STAGE_KINDS.items() if getattr(kind, what)}


def test_what_each_kind_needs_and_leaves() -> None:
    assert having("opens_model") == having("device") == set(STAGE_KINDS) - {"correct", "report"}
    assert having("opens_target") == {"check", "draft", "recover", "benchmark"}
    assert having("checkpoint") == {"prune", "recover"}
    assert having("concludes") == {"report"}
    deciding = {
        "plan",
        "costs",
        "score",
        "search",
        "draft",
        "choose",
        "prune",
        "recover",
        "sizes",
        "quantise",
        "benchmark",
        "correct",
    }
    assert having("decides") == deciding
    assert having("of_machine") == {"plan", "costs", "draft", "benchmark"}
    assert having("hands_on") == {"plan", "costs", "search", "draft", "choose", "correct"}
    assert having("reads_too") == {"score"}
    for name, kind in STAGE_KINDS.items():
        assert (kind.name, kind.module) == (name, f"workers.stages.{name}")
    assert len({kind.file for kind in STAGE_KINDS.values()}) == len(STAGE_KINDS)


def test_a_row_says_nothing_that_it_was_not_told() -> None:
    row = STAGE_KINDS["check"]
    plain = StageKind("x", "X", "doing x", "m", row.result, "x.json", (), row.asked)
    assert (plain.opens_model, plain.device, plain.checkpoint, plain.concludes) == (True, True, False, False)
    assert (plain.texts, plain.decides, plain.reads_too, plain.opens_target) == ((), None, None, False)
    assert (plain.of_machine, plain.hands_on) == (False, None)


def decided(kind: str, **changes: Any) -> dict[str, Any]:
    decides = STAGE_KINDS[kind].decides
    assert decides is not None
    found = decides(spec(**changes))
    assert found is not None
    return found


def test_the_depth_of_a_draft_depends_on_the_target_and_on_what_may_go() -> None:
    best = {**DRAFT, "pruning": {"kind": "depth"}}
    found = decided("draft", **best)
    assert set(found) == {"tokens", "plus", "heals", "target_model"}
    assert found["heals"] is False
    assert decided("draft", **best, recovery={"kind": "lora"}) == {**found, "heals": True}
    assert decided("draft", **best, benchmark={"draft": {"tokens": 3}}) == {**found, "tokens": 3}
    assert read_by(STAGE_KINDS["prune"], spec(**best)) == ("check", "score", "draft")


def test_measurements_are_shared_where_that_is_asked_for() -> None:
    decides = STAGE_KINDS["benchmark"].decides
    assert decides is not None
    assert decides(spec()) is None
    assert set(decided("benchmark", benchmark={"reuse_measurements": True})) == {"benchmark", "recovery"}
    assert decides(spec(benchmark={"reuse_measurements": True, "tasks": {}})) is None
    draft = {"use": "draft", "target_model": {"source": "hub", "id": "org/large"}}
    found = decided("benchmark", **draft, benchmark={"reuse_measurements": True})
    assert set(found) == {"benchmark", "recovery", "target_model"}
    assert set(decided("recover", **draft)) == {"pruning", "recovery", "target_model"}
    assert set(decided("prune", **draft)) == set(decided("prune"))


def test_scores_depend_on_how_much_goes_only_where_a_set_is_searched_for() -> None:
    one_shot = decided("score", scoring={"criterion": "perplexity"})
    assert set(one_shot) == {"scoring"}
    assert one_shot["scoring"]["criterion"] == "perplexity"
    assert "plus" not in one_shot["scoring"]
    searched = decided("score", scoring={"criterion": "greedy"})
    assert set(searched) == {"scoring", "pruning"}
    assert searched["scoring"]["plus"] is True
    assert searched["pruning"]["blocks"] == 2


@pytest.mark.parametrize(
    ("kind", "sections"),
    [("prune", {"plus", "pruning", "quantise"}), ("recover", {"pruning", "recovery"}), ("quantise", {"quantise"})],
)
def test_the_sections_that_decide_a_result(kind: str, sections: set[str]) -> None:
    assert set(decided(kind)) == sections


def test_a_plan_depends_on_what_is_timed_and_on_what_may_go() -> None:
    fast = {"pruning": {"kind": "depth", "target": {"speedup": 1.3}}}
    found = decided("plan", **fast)
    assert set(found) == {"target", "plus", "latency", "promised"}
    assert found["target"]["speedup"] == 1.3
    assert found == decided("plan", **fast, recovery={"kind": "lora"}, scoring={"criterion": "taylor"})
    assert found != decided("plan", **fast, benchmark={"latency": {"input_tokens": 13}})
    assert found == decided("plan", **fast, gates={"min_speedup": 1.2, "judge": "median"})
    assert found != decided("plan", **fast, gates={"min_speedup": 1.2}), "whose worse end has to be reached too"
    assert found != decided("plan", **fast, scoring={"criterion": "perplexity", "plus": False})


def test_a_search_of_the_depth_depends_on_the_constraints_and_on_whether_cuts_are_healed() -> None:
    bounded = {"pruning": {"kind": "depth", "constraints": {"max_kl": 0.3}}}
    found = decided("search", **bounded)
    assert set(found) == {"constraints", "plus", "heals"}
    assert found["heals"] is False
    assert decided("search", **bounded, recovery={"kind": "lora"}) == {**found, "heals": True}
    assert decided("search", **bounded, gates={"min_speedup": 1.1}) == found
    assert read_by(STAGE_KINDS["search"], spec(**bounded)) == ("check", "score")
    assert read_by(STAGE_KINDS["prune"], spec(**bounded)) == ("check", "score", "search")


@pytest.mark.parametrize("criterion", ["perplexity", "greedy"])
def test_only_a_search_for_so_many_blocks_waits_for_a_plan(criterion: str) -> None:
    asked = spec(pruning={"kind": "depth", "target": {"speedup": 1.3}}, scoring={"criterion": criterion})
    assert read_by(STAGE_KINDS["score"], asked) == (("check", "plan") if criterion == "greedy" else ("check",))
    assert read_by(STAGE_KINDS["prune"], asked) == ("check", "plan", "score")
    assert read_by(STAGE_KINDS["prune"], spec()) == ("check", "score")


@pytest.mark.parametrize("plus", [True, False])
def test_the_plus_rule_decides_what_is_pruned(plus: bool) -> None:
    assert decided("prune", scoring={"criterion": "perplexity", "plus": plus})["plus"] is plus


def test_what_a_stage_does_in_words() -> None:
    assert doing("prune") == "pruning the model"
    assert doing("of a newer service") == "of a newer service"


def test_what_halves_cost_depends_on_what_may_go_and_where_it_is_timed() -> None:
    def costs(**pruning: Any) -> dict[str, Any]:
        return decided("costs", pruning={"kind": "joint", "target": {"speedup": 1.3}, **pruning})

    assert costs() == costs(evaluations=7, calibration={"samples": 3})
    assert costs() != costs(choices=["attention"])
    assert costs() != costs(protected=["0.mlp"])
    assert costs() != costs(target={"speedup": 1.4})
    asked = spec(pruning={"kind": "joint", "target": {"speedup": 1.3}})
    assert read_by(STAGE_KINDS["prune"], asked) == ("check", "costs")
