"""The choice after healing, as a stage and in whole jobs: what is proposed, judged, taken and told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput, StageFailed
from secateur.contract.planning import Chosen
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of
from tests.fixtures.whole_job import SHORT_SPEC, Job
from workers.engine.healing.sets import HealedSets, JudgedSet
from workers.engine.recovery import finalist
from workers.stages import choose

WORDS = {"text": {"source": "local", "path": "words.txt"}, "samples": 4, "tokens": 16}
SPEC: dict[str, Any] = {
    **SHORT_SPEC,
    "pruning": {"kind": "depth", "blocks": 2},
    "recovery": {"kind": "healing", **WORDS, "own_text": 0},
    "benchmark": {
        **SHORT_SPEC["benchmark"],
        "latency": None,
        "perplexity": {"texts": [WORDS["text"]], "tokens": 16, "windows": 4},
    },
}
SCORING: dict[str, Any] = {
    "criterion": "perplexity",
    "plus": False,
    "calibration": WORDS,
    "after_healing": True,
    "candidates": 4,
    "healing_samples": 10,
}


@pytest.fixture
def root(tiny_checkpoint: Callable[..., Path], text_file: Path) -> Path:
    root = tiny_checkpoint(num_hidden_layers=6).parent
    (root / "words.txt").symlink_to(text_file)
    return root


def job(root: Path, scoring: dict[str, Any] | None = None, **changes: Any) -> Job:
    spec = CompressionSpec.model_validate({**SPEC, "scoring": {**SCORING, **(scoring or {})}, **changes})
    return Job(root, spec, data_roots=(root, (root / "words.txt").resolve().parent))


def chosen(run: Job) -> Chosen:
    run.run("score")
    found: Chosen = run.run("choose")
    return found


def test_the_set_nearest_to_the_original_once_healed_goes(root: Path) -> None:
    run = job(root)
    found = chosen(run)
    assert found.own.origin == "criterion"
    assert found.own.blocks == sorted(run.results["score"].order[:2])
    assert len(found.candidates) == 4
    assert found.taken == min(found.candidates, key=lambda candidate: candidate.kl_healed)
    assert all(candidate.kl_healed <= candidate.kl_pruned for candidate in found.candidates)
    assert all(candidate.kl_distilled is None for candidate in found.candidates)
    assert (found.fitted_tokens, found.judged_tokens, found.steps) == (8 * 16, 2 * 16, None)
    assert (found.text.samples, found.text.tokens) == (10, 16)
    assert run.run("prune").dropped == found.dropped


def test_what_the_criterion_takes_need_not_go(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pruned alone the criterion's own is best, and healed the last."""
    asked: list[Sequence[int]] = []

    def judged(self: HealedSets, removed: Sequence[int]) -> JudgedSet:
        asked.append(removed)
        return JudgedSet(1.0 + len(asked), 1.0 - 0.1 * len(asked), {})

    monkeypatch.setattr(HealedSets, "judged", judged)
    found = chosen(job(root))
    assert found.taken == found.candidates[-1]
    assert found.taken != found.own


@pytest.mark.parametrize("kl", [float("nan"), float("inf")])
def test_a_divergence_that_is_no_number_has_no_place_in_an_order(
    root: Path, monkeypatch: pytest.MonkeyPatch, kl: float
) -> None:
    monkeypatch.setattr(HealedSets, "judged", lambda *_: JudgedSet(kl, kl, {}))
    with pytest.raises(StageFailed, match="no finite number"):
        chosen(job(root))


@pytest.mark.parametrize("criterion", ["taylor", "angular", "greedy", "random"])
def test_other_criteria_propose_sets_too(root: Path, criterion: str) -> None:
    text = {} if criterion == "random" else {"calibration": WORDS}
    scoring = {"criterion": criterion, "after_healing": True, "candidates": 3, "healing_samples": 5, **text}
    spec = {**SPEC, "scoring": {**scoring, "plus": False}}
    run = Job(root, CompressionSpec.model_validate(spec), data_roots=(root, (root / "words.txt").resolve().parent))
    found = chosen(run)
    assert found.own.origin == "criterion"
    assert {len(candidate.blocks) for candidate in found.candidates} == {2}


def test_text_that_the_model_writes_has_to_fit_it(tiny_checkpoint: Callable[..., Path], text_file: Path) -> None:
    """A criterion without a text takes 128 tokens a sample."""
    root = tiny_checkpoint(num_hidden_layers=6, max_position_embeddings=64).parent
    (root / "words.txt").symlink_to(text_file)
    spec = {**SPEC, "scoring": {"criterion": "magnitude", "plus": False, "after_healing": True}}
    run = Job(root, CompressionSpec.model_validate(spec), data_roots=(root, (root / "words.txt").resolve().parent))
    run.run("score")
    for stage in ("check", "choose"):
        with pytest.raises(InvalidInput) as caught:
            run.run(stage)
        assert {error.pointer for error in caught.value.errors} == {"/scoring/after_healing"}


def test_finalists_are_distilled_and_judged_again(root: Path) -> None:
    run = job(root, {"finalists": 2, "finalist_steps": 3})
    found = chosen(run)
    nearest = sorted(found.candidates, key=lambda candidate: candidate.kl_healed)
    distilled = [candidate for candidate in nearest if candidate.kl_distilled is not None]
    assert distilled == nearest[:2]
    assert found.steps == 3
    assert found.taken == min(distilled, key=lambda candidate: candidate.kl_distilled or 0)
    assert all(candidate.kl_distilled != candidate.kl_healed for candidate in distilled)
    assert not (run.root / run.work / "choose" / "scratch" / "finalist").exists(), "no model is left behind"


def test_the_next_attempt_goes_on_where_a_killed_one_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = chosen(job(root, {"finalists": 2, "finalist_steps": 3}))
    run, judged = job(root, {"finalists": 2, "finalist_steps": 3}), HealedSets.judged
    run.work, calls = "again", 0

    def killed(self: HealedSets, removed: Sequence[int]) -> JudgedSet:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return judged(self, removed)

    monkeypatch.setattr(HealedSets, "judged", killed)
    with pytest.raises(KeyboardInterrupt):
        chosen(run)
    found = run.run("choose")
    assert calls == 3 + 2 + 2, "two sets were left, and two finalists are healed to be trained"
    assert found.candidates == whole.candidates
    monkeypatch.setattr(HealedSets, "judged", lambda *_: pytest.fail("all is known"))
    assert run.run("choose").dropped == whole.dropped


def test_a_finalist_whose_training_was_killed_is_pruned_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, distilled = job(root, {"finalists": 2, "finalist_steps": 2}), finalist.distilled_states

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(choose, "distilled_states", killed)
    with pytest.raises(KeyboardInterrupt):
        chosen(run)
    monkeypatch.setattr(choose, "distilled_states", distilled)
    assert run.run("choose").steps == 2


def test_a_model_from_disk_is_chosen_for_and_has_no_finalists(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = chosen(job(root))
    monkeypatch.setattr("workers.stages.block_model.available_memory", lambda device: 0)
    streamed = job(root)
    streamed.work = "streamed"
    found = chosen(streamed)
    assert found.dropped == whole.dropped
    assert [candidate.kl_healed for candidate in found.candidates] == pytest.approx(
        [candidate.kl_healed for candidate in whole.candidates], rel=1e-4
    )
    for stage in ("check", "choose"):
        run = job(root, {"finalists": 2})
        run.folders = streamed.folders
        with pytest.raises(InvalidInput) as caught:
            run.run(stage)
        assert [error.pointer for error in caught.value.errors] == ["/scoring/finalists"]


@pytest.mark.thorough
def test_a_whole_job_tells_what_was_taken_and_what_the_criterion_alone_takes(root: Path) -> None:
    run = job(root, {"finalists": 2, "finalist_steps": 2})
    assert kinds_of(run.spec)[:4] == ("check", "score", "choose", "prune")
    for name in kinds_of(run.spec):
        run.run(name)
    report = run.results["report"]
    assert report.chosen == run.results["choose"]
    assert report.pruned.dropped == report.scores.drop == report.chosen.dropped
    assert "up to 4 sets are healed, 2 of them distilled" in {check.seen for check in run.results["check"].checks}
    page = unescape((run.folders["report"] / "report.html").read_text())
    for words in ("Chosen after healing", "(the criterion's own): KL", "after 2 steps", "4 sets healed on 128 tokens"):
        assert words in page
    assert "Chosen after healing: blocks" in (run.folders["report"] / "report.md").read_text()
