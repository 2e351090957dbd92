"""Times and speedups come from what was measured, and from nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.estimates.model import known_model
from secateur.contract.estimates.removal import removal_of
from secateur.contract.estimates.speedups import PastSpeedup, speedup
from secateur.contract.estimates.times import PastStage, duration
from secateur.contract.estimates.work import Scale, Task, Work, task_of, work_of
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import STAGE_KINDS
from tests.fixtures.smollm2 import SMOLLM2_CONFIG

SMALL, LARGE = Scale(100, 10, 400), Scale(200, 10, 800)


def spec_of(**sections: Any) -> CompressionSpec:
    body = {"model": {"source": "hub", "id": "a/b"}, "pruning": {"kind": "depth", "blocks": 2}}
    return CompressionSpec.model_validate({**body, **sections})


def amount(kind: str, spec: CompressionSpec, scale: Scale = SMALL) -> float:
    work = work_of(kind, spec, scale)
    assert work is not None
    return work.amount


def test_every_kind_of_stage_has_work_and_more_of_it_on_a_larger_model() -> None:
    spec = spec_of(quantise=[{"kind": "int8"}])
    for kind in STAGE_KINDS:
        assert amount(kind, spec, Scale(100, 10, 400, target=900)) > 0
    for kind in ("score", "prune", "recover", "quantise", "benchmark"):
        assert amount(kind, spec, LARGE) == 2 * amount(kind, spec)


def test_a_draft_is_tried_by_the_size_of_both_models() -> None:
    drafts = {
        "use": "draft",
        "target_model": {"source": "hub", "id": "a/larger"},
        "pruning": {"kind": "depth", "maximise": "draft_speedup"},
    }
    beside = Scale(100, 10, 400, target=900)
    assert work_of("draft", spec_of(**drafts), beside) == Work(1000, "parameter")
    assert work_of("draft", spec_of(**drafts), SMALL) is None  # the target is not known
    assert task_of("draft", spec_of(**drafts)) != task_of("draft", spec_of(**drafts, recovery={"kind": "none"}))


def test_twice_the_text_is_twice_the_work() -> None:
    def scored(samples: int, criterion: str) -> float:
        return amount("score", spec_of(scoring={"criterion": criterion, "calibration": {"samples": samples}}))

    for criterion in ("perplexity", "taylor", "block_influence", "greedy", "evolutionary"):
        assert scored(20, criterion) == 2 * scored(10, criterion)
    magnitude = work_of("score", spec_of(scoring={"criterion": "magnitude"}), SMALL)
    assert magnitude == Work(SMALL.bytes, "byte")
    trained = [amount("recover", spec_of(recovery={"kind": "lora", "max_steps": steps})) for steps in (4, 8)]
    assert trained[1] == 2 * trained[0]


def test_a_recovered_model_that_goes_as_a_file_is_measured_twice() -> None:
    file, folder = ({"source": "local", "path": path} for path in ("m.GGUF", "m"))
    assert amount("benchmark", spec_of(model=file)) * 3 == amount("benchmark", spec_of(model=folder)) * 4
    alone = {"recovery": {"kind": "none"}}
    assert amount("benchmark", spec_of(model=file, **alone)) == amount("benchmark", spec_of(model=folder, **alone))


def test_a_text_of_unknown_length_is_no_known_work() -> None:
    text = {"source": "local", "path": "news.txt"}
    assert work_of("recover", spec_of(recovery={"kind": "lora", "text": text}), SMALL) is None


def test_only_stages_that_did_the_same_are_compared() -> None:
    first, second = spec_of(), spec_of(scoring={"criterion": "taylor"})
    assert task_of("score", first) != task_of("score", second)
    assert task_of("benchmark", first) == task_of("benchmark", second)
    task = task_of("score", first)
    past = [
        PastStage(task, "cpu", "m", 10, Work(100, "byte"), None),
        PastStage(task, "gpu", "m", 1, Work(100, "byte"), None),
        PastStage(task_of("score", second), "cpu", "m", 77, Work(100, "byte"), None),
        PastStage(task, "cpu", "m", 77, Work(100, "stage"), None),
    ]
    found = duration(task, Work(50, "byte"), past, device="cpu")
    assert found is not None
    assert (found.seconds, found.stages) == (5, 1)
    assert duration(task, Work(50, "byte"), past, device="another") is None
    assert duration(Task("prune", ""), Work(50, "byte"), past, device="cpu") is None
    assert duration(task, None, past, device="cpu") is None


def test_a_stage_of_another_size_tells_nothing() -> None:
    """A tiny model's seconds are the start of a process, and not those of its weights."""
    task = Task("prune", "depth")
    past = [PastStage(task, "cpu", "m", 1, Work(100, "byte"), None)]
    assert duration(task, Work(2000, "byte"), past, device="cpu") is not None
    assert duration(task, Work(2001, "byte"), past, device="cpu") is None
    assert duration(task, Work(4, "byte"), past, device="cpu") is None


def test_a_measured_speedup_goes_before_the_one_by_bytes() -> None:
    model, spec = known_model(SMOLLM2_CONFIG), spec_of(pruning={"kind": "depth", "blocks": 6})
    assert model is not None
    removal = removal_of(spec, model)
    assert removal is not None
    share = removal.parameters / model.count.total
    by_bytes = speedup(spec, model, removal, past=[], device="cpu")
    assert by_bytes is not None
    assert (by_bytes.basis, round(by_bytes.value, 2)) == ("bytes", 1.19)
    same = PastSpeedup("cpu", "depth", share, 1.25)
    others = [PastSpeedup("gpu", "depth", share, 3.0), PastSpeedup("cpu", "flap", share, 1.0)]
    found = speedup(spec, model, removal, past=[same, *others], device="cpu")
    assert found is not None
    assert found.basis == "past"
    assert found.value == pytest.approx(1.25)
    # half as much gone saves half of what it saved
    half = speedup(spec, model, removal, past=[PastSpeedup("cpu", "depth", 2 * share, 1.25)], device="cpu")
    assert half is not None
    assert half.value == pytest.approx(1 / (1 - 0.1))
    assert speedup(spec, None, None, past=[same], device="cpu") is None


def test_a_width_method_is_told_with_its_doubt() -> None:
    model, spec = known_model(SMOLLM2_CONFIG), spec_of(pruning={"kind": "wanda_sp", "ratio": 0.2})
    assert model is not None
    found = speedup(spec, model, removal_of(spec, model), past=[], device="cpu")
    assert found is not None
    assert "may well be less" in found.detail
