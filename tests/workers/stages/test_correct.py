"""A second round, where the benchmark of the real result leaves the target out: on played times, on either side."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.jobs import Verdict
from secateur.contract.planning import Corrected, TimedDepth
from secateur.contract.report import Report
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of
from tests.fixtures.played_times import Played, played_on
from tests.fixtures.whole_job import SHORT_SPEC, Job
from workers.stages.correct import left_as_it_is

SPEC: dict[str, Any] = {
    **SHORT_SPEC,
    "scoring": {"criterion": "magnitude", "plus": False},
    "recovery": {"kind": "none"},
    "benchmark": {
        **SHORT_SPEC["benchmark"],
        "perplexity": None,
        "fidelity": {"enabled": False},
    },
}


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    """8 blocks take 10 seconds, each of them 1; a real result may take others."""
    return played_on(monkeypatch)


@pytest.fixture
def root(tiny_checkpoint: Callable[..., Path]) -> Path:
    return tiny_checkpoint().parent


def until_corrected(
    root: Path, played: Played, target: dict[str, float], real: dict[int, float], **changes: Any
) -> Job:
    """A job up to its correction; the plan is by the line, and the real results take what `real` has by blocks left."""
    job = Job(root, CompressionSpec.model_validate({**SPEC, "pruning": {"kind": "depth", "target": target}, **changes}))
    for name in kinds_of(job.spec):
        if name == "report":
            break
        if name == "benchmark":
            played.unlike = real
        job.run(name)
    return job


def ended(job: Job) -> Report:
    """The report, after whatever the correction has added."""
    for key in job.added:
        job.run(key)
    report: Report = job.run("report")
    return report


def test_what_is_too_slow_loses_more_and_is_measured_again(root: Path, played: Played) -> None:
    job = until_corrected(root, played, {"speedup": 1.3}, {5: 8.0, 4: 7.5})
    corrected = job.results["correct"]
    assert (corrected.planned, corrected.removed, corrected.again) == (3, 4, True)
    assert corrected.measured.value == pytest.approx(10 / 8)
    assert corrected.predicted.value == pytest.approx(10 / 7), "a block is a tenth, from what was measured on"
    assert list(job.added) == ["prune-2", "benchmark-2"]
    report = ended(job)
    assert [(outcome.removed, outcome.met) for outcome in report.rounds] == [(3, False), (4, True)]
    assert (report.round, len(report.pruned.dropped), report.verdict) == (2, 4, Verdict.PASSED)
    assert report.target == report.rounds[1]
    assert report.target is not None
    assert "4 of 8 blocks went, corrected from 3, for which 1.43× was predicted, and 1.33×" in report.target.message
    assert "1.25× was measured without 3 blocks, which misses the 1.3× asked for" in report.corrected.message  # type: ignore[union-attr]
    folder = job.folders["report"]
    for form in ("report.html", "report.md"):
        words = unescape((folder / form).read_text()).replace("\\", "")
        assert "round 1: speedup of at least 1.3×, missed: 3 of 8 blocks went" in words, form
        assert "Round 2 is handed out" in words
    assert "--prefix prune-2/" in (folder / "report.html").read_text()
    cards = folder / "cards"
    assert "1.25×" in (cards / "prune/checkpoint/README.md").read_text()
    assert (cards / "prune-2/checkpoint/README.md").read_text() == (folder / "model_card.md").read_text()
    layers = json.loads((job.folders["prune-2"] / "checkpoint/config.json").read_text())["num_hidden_layers"]
    assert layers == 4


def test_of_what_is_faster_than_asked_less_goes(root: Path, played: Played) -> None:
    job = until_corrected(root, played, {"speedup": 1.3}, {5: 6.0, 6: 7.5})
    assert (job.results["correct"].planned, job.results["correct"].removed) == (3, 2)
    report = ended(job)
    assert [outcome.met for outcome in report.rounds] == [True, True]
    assert (report.round, len(report.pruned.dropped)) == (2, 2), "less is gone, and the target is reached"


def test_a_second_round_that_misses_is_not_handed_out_where_the_first_reached(root: Path, played: Played) -> None:
    report = ended(until_corrected(root, played, {"speedup": 1.3}, {5: 6.0, 6: 9.0}))
    assert [(outcome.removed, outcome.met) for outcome in report.rounds] == [(3, True), (2, False)]
    assert (report.round, len(report.pruned.dropped), report.verdict) == (1, 3, Verdict.PASSED)
    assert any("Round 1 is handed out" in note for note in report.notes)


def test_of_two_rounds_that_miss_the_better_is_handed_out_and_there_is_no_third(root: Path, played: Played) -> None:
    job = until_corrected(root, played, {"latency_ms": 7200}, {5: 8.0, 4: 7.9})
    report = ended(job)
    assert [outcome.met for outcome in report.rounds] == [False, False]
    assert (report.round, report.verdict) == (2, Verdict.FAILED)
    assert sorted(job.added) == ["benchmark-2", "prune-2"], "never more than once"


def test_what_no_depth_reaches_fails_with_the_best_that_was_found(root: Path, played: Played) -> None:
    plus = {"criterion": "magnitude"}  # two of eight blocks may go
    job = until_corrected(root, played, {"speedup": 1.2}, {6: 9.0}, scoring=plus)
    assert (job.results["correct"].again, job.added) == (False, {})
    report = ended(job)
    assert (report.verdict, report.rounds) == (Verdict.FAILED, [])
    words = "speedup 1.11× was measured without 2 blocks, which misses the 1.2× asked for, and no depth reaches it"
    assert any(words in note for note in report.notes)


def test_a_target_that_is_reached_is_left_alone(root: Path, played: Played) -> None:
    job = until_corrected(root, played, {"memory": 0.8}, {})
    assert not job.results["correct"].again, "one block fewer is not expected to reach it"
    assert ended(job).round == 1


def test_a_recovery_that_begins_with_an_earlier_model_is_left_as_it_is() -> None:
    depth = TimedDepth(removed=3, value=1.2)
    found = Corrected(
        figure="speedup", limit=1.3, planned=3, measured=depth, removed=4, predicted=depth, message="1.2× misses"
    )
    left = left_as_it_is(found)
    assert (left.again, left.removed, left.predicted) == (False, 3, None)
    assert left.message == "1.2× misses; no second round, since the recovery begins with a model without 3"
    assert left_as_it_is(left) == left


def test_all_that_follows_the_plan_is_done_again(root: Path, played: Played) -> None:
    """A criterion that searches for a set of so many blocks, a choice among sets, a recovery and a quantisation."""
    job = until_corrected(
        root,
        played,
        {"speedup": 1.3},
        {5: 8.0, 4: 7.5},
        scoring={"criterion": "greedy", "plus": False, "calibration": {"samples": 2, "tokens": 16}},
        recovery={"kind": "healing", "samples": 4, "tokens": 16},
        quantise=[{"kind": "int8"}],
    )
    needs = {stage.key: stage.needs for stage in job.added.values()}
    assert needs == {
        "score-2": ("check", "correct"),
        "prune-2": ("check", "correct", "score-2"),
        "recover-2": ("check", "score-2", "prune-2"),
        "quantise-2": ("check", "score-2", "prune-2", "recover-2"),
        "benchmark-2": ("check", "prune-2", "recover-2", "quantise-2"),
    }
    assert all(stage.before == ("report",) for stage in job.added.values())
    report = ended(job)
    assert (report.round, report.final_variant) == (2, "recovered")
    assert report.scores is not None
    assert report.scores.drop == report.pruned.dropped
    cards = {
        str(path.parent.relative_to(job.folders["report"] / "cards"))
        for path in job.folders["report"].rglob("README.md")
    }
    assert {"prune/checkpoint", "prune-2/checkpoint", "recover-2/checkpoint", "quantise-2/int8/checkpoint"} < cards
