"""A job that makes a draft: what it names, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from secateur.contract.gate_needs import never_passed
from secateur.contract.options.benchmark import DraftBenchmark
from secateur.contract.spec import CompressionSpec, HubModel
from secateur.contract.validation_errors import field_errors

MODEL = {"source": "hub", "id": "org/small"}
TARGET = {"source": "hub", "id": "org/large", "revision": "v2"}
DRAFT: dict[str, Any] = {"use": "draft", "target_model": TARGET}
DEPTH = {"kind": "depth", "blocks": 2}


def spec(**changes: Any) -> CompressionSpec:
    return CompressionSpec.model_validate({"model": MODEL, "pruning": DEPTH, **changes})


def refused(**changes: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        spec(**changes)
    return [error.pointer for error in field_errors(CompressionSpec, caught.value.errors())]


def test_a_draft_names_its_target_and_is_measured_with_it() -> None:
    found = spec(**DRAFT)
    assert found.target_model == HubModel(source="hub", id="org/large", revision="v2")
    assert found.benchmark.draft == DraftBenchmark()
    assert CompressionSpec.model_validate(found.model_dump(mode="json")) == found
    assert spec(**DRAFT, benchmark={"draft": {"tokens": 3}}).benchmark.draft == DraftBenchmark(tokens=3)


def test_a_draft_learns_from_its_target_unless_it_is_told_otherwise() -> None:
    usual = spec(**DRAFT).recovery
    assert (usual.kind, usual.text.source) == ("distill", "answers")  # type: ignore[union-attr]
    assert spec().recovery.text.source == "self"  # type: ignore[union-attr]
    given = spec(**DRAFT, recovery={"kind": "distill", "text": {"source": "self"}}).recovery
    assert given.text.source == "self"  # type: ignore[union-attr]
    assert spec(**DRAFT, recovery={"max_steps": 3}).recovery.text.source == "answers"  # type: ignore[union-attr]
    assert spec(**DRAFT, recovery={"kind": "none"}).recovery.kind == "none"
    assert spec(**DRAFT, preset="shortened_llama").recovery.kind == "lora", "a preset says what is usual first"


def test_as_many_blocks_go_as_make_the_best_draft_unless_it_is_said() -> None:
    best = {**DRAFT, "pruning": {"kind": "depth"}}
    assert spec(**best).pruning.maximise == "draft_speedup"  # type: ignore[union-attr]
    assert spec(**DRAFT).pruning.maximise is None  # type: ignore[union-attr]


def test_what_is_left_out_of_a_drafts_benchmark_stays_out() -> None:
    found = spec(**DRAFT, benchmark={"draft": None, "samples": None})
    assert found.benchmark.draft is None
    assert CompressionSpec.model_validate(found.model_dump(mode="json")) == found


def test_other_jobs_measure_no_draft() -> None:
    assert (spec().use, spec().target_model, spec().benchmark.draft) == ("model", None, None)


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({"use": "draft"}, ["/target_model"]),
        ({"target_model": TARGET}, ["/target_model"]),
        ({"benchmark": {"draft": {}}}, ["/benchmark/draft"]),
        ({"use": "drafts", "target_model": TARGET}, ["/use"]),
        ({"use": "draft", "target_model": {"source": "hub"}}, ["/target_model/id"]),
        ({"use": "draft", "target_model": {"source": "local", "path": ""}}, ["/target_model/path"]),
        ({"use": "draft", "target_model": "org/large"}, ["/target_model"]),
        ({**DRAFT, "benchmark": {"draft": {"tokens": 0}}}, ["/benchmark/draft/tokens"]),
        ({**DRAFT, "benchmark": {"draft": {"tokens": 65}}}, ["/benchmark/draft/tokens"]),
        (
            {**DRAFT, "benchmark": {"draft": {"prompts": 1}}},
            ["/benchmark/draft/prompts"],
        ),
        ({"pruning": {"kind": "depth"}}, ["/pruning"]),
        ({"pruning": {"kind": "depth", "maximise": "draft_speedup"}}, ["/pruning/maximise"]),
        ({**DRAFT, "pruning": {"kind": "depth"}, "benchmark": {"draft": None}}, ["/pruning/maximise"]),
        ({**DRAFT, "pruning": {"kind": "depth", "maximise": "draft_speedup", "blocks": 2}}, ["/pruning/blocks"]),
        ({**DRAFT, "pruning": {"kind": "depth"}, "scoring": {"criterion": "greedy"}}, ["/scoring/criterion"]),
        ({**DRAFT, "recovery": {"kind": "distill", "hidden_weight": 1}}, ["/recovery/hidden_weight"]),
        (
            {**DRAFT, "benchmark": {"draft": {"tokens": 8, "max_new_tokens": 8}}},
            ["/benchmark/draft/tokens"],
        ),
    ],
    ids=str,
)
def test_what_cannot_be_a_draft_is_refused_at_its_field(changes: dict[str, Any], pointers: list[str]) -> None:
    assert refused(**changes) == pointers


def test_gates_on_drafts_need_one_that_is_measured() -> None:
    gates = {"min_draft_speedup": 1.1, "min_draft_acceptance": 0.5, "min_draft_equal": 1}
    assert [error.pointer for error in never_passed(spec(gates=gates))] == [f"/gates/{name}" for name in gates]
    assert never_passed(spec(**DRAFT, gates=gates)) == []
