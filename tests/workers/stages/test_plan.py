"""The plan of a job that is to be fast or small in memory: played times, since real ones of tiny models are noise."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from secateur.contract.jobs import Verdict
from secateur.contract.planning import Planned
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of
from tests.fixtures.played_times import Played, played_on
from tests.fixtures.whole_job import SHORT_SPEC, Job
from workers.stages import beside_original

SPEC: dict[str, Any] = {
    **SHORT_SPEC,
    "scoring": {"criterion": "magnitude", "plus": False},
    "recovery": {"kind": "none"},
    "benchmark": {
        **SHORT_SPEC["benchmark"],
        "latency": {"input_tokens": 4, "output_tokens": [4, 6], "batch_sizes": [1, 2], "warmup": 0, "runs": 3},
        "perplexity": None,
        "fidelity": {"enabled": False},
    },
}


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    return played_on(monkeypatch)


@pytest.fixture
def root(tiny_checkpoint: Callable[..., Path]) -> Path:
    return tiny_checkpoint().parent


def job(root: Path, target: dict[str, Any], **changes: Any) -> Job:
    spec = {**SPEC, "pruning": {"kind": "depth", "target": target}, **changes}
    return Job(root, CompressionSpec.model_validate(spec))


def planned(root: Path, target: dict[str, Any], **changes: Any) -> Planned:
    run = job(root, target, **changes)
    run.run("check")
    found: Planned = run.run("plan")
    return found


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("target", "removed", "reached"),
    [
        ({"speedup": 1.3}, 3, 10 / 7),  # 10 s → at most 7.69 s
        ({"speedup": 1.42}, 3, 10 / 7),
        ({"speedup": 3.3}, 7, 10 / 3),
        ({"latency_ms": 7999}, 3, 7000),
        ({"latency_ms": 8001}, 2, 8000),
        ({"tokens_per_second": 0.499}, 2, 4 / 8),
        ({"tokens_per_second": 0.99, "batch_size": 2, "output_tokens": 4}, 2, 8 / 8),
        ({"tokens_per_second": 0.99, "output_tokens": 6}, 4, 6 / 6),
        ({"memory": 0.8}, 4, 1400),
        ({"memory": 1501}, 3, 1500),
    ],
    ids=str,
)
def test_as_few_blocks_go_as_reach_the_target(
    root: Path, played: Played, target: dict[str, Any], removed: int, reached: float
) -> None:
    found = planned(root, target)
    assert found.removed == removed
    assert (found.predicted.removed, found.confirmed.removed) == (removed, removed)
    assert (found.predicted.value, found.confirmed.value) == pytest.approx((reached, reached))
    assert [depth.removed for depth in found.tried] == [2, 5, 7]
    assert found.corrected_from is None
    if "memory" not in target:
        assert played.depths == [[8, 6, 3, 1], [8, 8 - removed]], "depths in turn with the original, then the chosen"
        cell = played.cells[0]
        assert (cell.batch_size, cell.output_tokens) == (target.get("batch_size", 1), target.get("output_tokens", 4))
        assert found.per_block == pytest.approx(0.1)


def test_a_depth_that_misses_by_itself_is_corrected_once(root: Path, played: Played) -> None:
    played.unlike, played.only_at = {5: 8.0}, 2  # without 3 blocks, when they are timed alone: 1.25 in place of 1.43
    found = planned(root, {"speedup": 1.3})
    assert (found.corrected_from, found.removed) == (3, 4), "by what was seen a block is 0.2 / 3 of the time"
    assert found.confirmed.value == pytest.approx(10 / 6)


def test_a_depth_that_does_more_than_it_need_is_corrected_too(root: Path, played: Played) -> None:
    played.unlike, played.only_at = {5: 5.5, 6: 7.5}, 2
    found = planned(root, {"speedup": 1.3})
    assert (found.corrected_from, found.removed) == (3, 2)
    assert found.confirmed.value == pytest.approx(10 / 7.5)


def test_a_correction_that_would_miss_is_not_taken(root: Path, played: Played) -> None:
    played.unlike, played.only_at = {5: 5.5}, 2  # without 2 it is 1.25 after all
    found = planned(root, {"speedup": 1.3})
    assert (found.corrected_from, found.removed) == (None, 3)


LONG = {"latency": {"input_tokens": 4, "output_tokens": [44], "warmup": 3, "runs": 12}}
WOBBLE = (1.0, 1.05, 0.95, 1.03, 0.97)


def long(root: Path, target: dict[str, Any], **changes: Any) -> Planned:
    return planned(root, target, benchmark={**SPEC["benchmark"], **LONG}, **changes)


def test_a_sample_of_each_generation_is_timed_until_the_depths_are_told_apart(root: Path, played: Played) -> None:
    found = long(root, {"speedup": 1.3})
    cell = played.cells[0]
    assert (cell.output_tokens, cell.steps, cell.warmup) == (44, 16, 1)
    assert (found.timed_tokens, found.output_tokens) == (16, 44)
    assert found.runs == 5, "as few as tell anything, since these times leave no doubt"


@pytest.mark.parametrize(("seconds", "rounds"), [(1e-6, 3), (86_400, 32)])
def test_depths_that_are_not_told_apart_take_the_time_that_there_is(
    root: Path, played: Played, seconds: float, rounds: int
) -> None:
    """12 runs of 43 tokens are 32 of 16: there are never more of them than the benchmark has."""
    played.wobble = WOBBLE
    found = long(root, {"speedup": 10 / 7, "plan_seconds": seconds})
    assert (found.removed, found.runs) == (3, rounds)


def test_the_figure_itself_decides_and_the_worse_end_where_a_gate_promises(root: Path, played: Played) -> None:
    """Without 3 blocks it is 1.43, give or take a few hundredths."""
    played.wobble = WOBBLE
    found = long(root, {"speedup": 1.42})
    assert found.removed == 3
    assert found.predicted.low is not None
    assert found.predicted.low < 1.42 < found.predicted.value
    assert long(root, {"speedup": 1.42}, gates={"min_speedup": 1.42}).removed == 4
    assert long(root, {"speedup": 1.42}, gates={"min_speedup": 1.42, "judge": "median"}).removed == 3
    assert long(root, {"latency_ms": 7042}, gates={"min_speedup": 1.42}).removed == 3, "of another figure"


def refused(root: Path, target: dict[str, Any], **changes: Any) -> Any:
    with pytest.raises(InvalidInput) as caught:
        planned(root, target, **changes)
    (error,) = caught.value.errors
    assert (error.pointer, error.value) == (f"/pruning/target/{next(iter(target))}", next(iter(target.values())))
    return error


@pytest.mark.thorough
def test_what_no_depth_reaches_is_told_with_the_best(root: Path, played: Played) -> None:
    error = refused(root, {"speedup": 4})
    assert error.detail == (
        "no depth reaches 4×: speedup 3.33× at batch 1, 4 + 4 tokens is the best on this worker, without 7 of the "
        "8 blocks, and one has to stay"
    )
    assert error.expected == "at most 3.33×"
    assert "peak memory 1.10 kB" in refused(root, {"memory": 1000}).detail
    assert 'the "+" rule keeps 6' in refused(root, {"latency_ms": 5}, scoring={"criterion": "magnitude"}).detail


@pytest.mark.thorough
@pytest.mark.parametrize("target", [{"latency_ms": 10_000}, {"tokens_per_second": 0.2}, {"memory": 1800}], ids=str)
def test_what_the_original_has_is_refused(root: Path, played: Played, target: dict[str, Any]) -> None:
    assert "the original has it as it is" in refused(root, target).detail


def test_a_model_of_which_no_block_may_go_is_refused_by_the_check(tiny_checkpoint: Callable[..., Path]) -> None:
    root = tiny_checkpoint(num_hidden_layers=6).parent
    assert "none of the model's 6 blocks may go" in refused(root, {"speedup": 2}, scoring={}).detail


def run_all(run: Job) -> Any:
    for name in kinds_of(run.spec):
        run.run(name)
    return run.results["report"]


@pytest.mark.thorough
@pytest.mark.parametrize("criterion", ["magnitude", "greedy"])
def test_a_whole_job_reports_what_was_asked_foreseen_and_reached(root: Path, played: Played, criterion: str) -> None:
    scoring = {"criterion": criterion, "plus": False}
    if criterion == "greedy":  # which searches for as many as the plan has found
        scoring["calibration"] = {"samples": 2, "tokens": 16}
    run = job(root, {"speedup": 1.3}, scoring=scoring)
    report = run_all(run)
    assert len(report.pruned.dropped) == report.planned.removed == 3
    target = report.target
    assert (target.figure, target.limit, target.met, target.removed) == ("speedup", 1.3, True, 3)
    assert target.value == pytest.approx(10 / 7)
    assert "8 blocks went" in target.message
    assert report.verdict is Verdict.PASSED
    assert [gate.gate for gate in report.gates] == ["min_target_speedup"]
    page = unescape((run.folders["report"] / "report.html").read_text())
    assert target.message in page
    assert "at least 1.3×" in page
    assert "by these a block is 10.0 % of the original" in page


@pytest.mark.thorough
def test_a_target_that_the_real_result_misses_fails(root: Path, played: Played) -> None:
    run = job(root, {"speedup": 1.3})
    for name in ("check", "plan", "score", "prune"):
        run.run(name)
    played.unlike, played.only_at = {5: 9.0}, None
    for name in ("benchmark", "report"):
        run.run(name)
    report = run.results["report"]
    assert not report.target.met
    assert report.verdict is Verdict.FAILED
    assert "missed" in report.target.message
    assert any("did not reach its target" in note for note in report.notes)
    assert "1.11×" in report.gates[0].message


@pytest.mark.thorough
def test_other_gates_are_judged_beside_it(root: Path, played: Played) -> None:
    report = run_all(job(root, {"memory": 0.9}, gates={"max_parameters": 1}))
    assert [(gate.gate, gate.passed) for gate in report.gates] == [
        ("max_target_memory", True),
        ("max_parameters", False),
    ]
    assert report.verdict is Verdict.FAILED


@pytest.mark.thorough
def test_depths_that_do_not_fit_together_are_timed_one_by_one(
    root: Path, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside_original, "available_memory", lambda device: 1)
    assert planned(root, {"speedup": 1.3}).removed == 3
    assert played.depths == [[8, 6], [8, 3], [8, 1], [8, 5]]


def test_real_times_have_intervals(root: Path) -> None:
    latency = {"input_tokens": 4, "output_tokens": [4], "warmup": 1, "runs": 3}
    with pytest.raises(InvalidInput, match=r"no depth reaches 1,000,000,000×: speedup .* to .*"):
        planned(root, {"speedup": 1e9}, benchmark={**SPEC["benchmark"], "latency": latency})
