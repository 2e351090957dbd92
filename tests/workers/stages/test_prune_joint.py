"""A job of joint pruning through its stages: searched in the prune stage under a budget that is counted."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput, StageFailed
from secateur.contract.results import Pruned
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of
from tests.fixtures.whole_job import SHORT_SPEC, run_job, tiny_llama
from workers.engine.scoring.joint import JointFound, search_parts

CALIBRATION = {"samples": 5, "tokens": 16}
OFF = {"latency": None, "perplexity": None, "fidelity": {"enabled": False}, "samples": None, "generation": None}


def spec(target: dict[str, Any], **pruning: Any) -> dict[str, Any]:
    options = {
        "kind": "joint",
        "target": target,
        "evaluations": 30,
        "calibration": CALIBRATION,
        "healing": None,
        **pruning,
    }
    return {**SHORT_SPEC, "pruning": options, "recovery": {"kind": "none"}, "benchmark": OFF}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny_llama(spread=0.08).save_pretrained(tmp_path / "tiny")
    return tmp_path


@pytest.mark.parametrize("figure", ["parameters", "bytes"])
def test_a_job_under_a_counted_budget(figure: str, root: Path) -> None:
    given = spec({figure: 0.8}, protected=["0.attention", "0.mlp"])
    assert kinds_of(CompressionSpec.model_validate(given)) == ("check", "prune", "benchmark", "report")
    results, folders = run_job(root, given)
    pruned: Pruned = results["prune"]
    search = pruned.joint
    assert search is not None
    before, after = {
        "parameters": (pruned.parameters_before, pruned.parameters_after),
        "bytes": (pruned.bytes_before, pruned.bytes_after),
    }[figure]
    assert after <= int(0.8 * before) < before
    assert search.best.units == pruned.units
    assert search.best.saved == before - after >= search.needed == before - int(0.8 * before)
    assert not {"0.attention", "0.mlp"} & set(pruned.units)
    assert sorted(f"{part.block}.{part.goes}" for part in search.parts) == sorted(
        f"{block}.{goes}" for block in range(1, 6) for goes in ("attention", "mlp", "block")
    )
    assert sum(part.saved for part in search.parts if part.removed) == search.best.saved
    assert search.blocks_alone is not None
    assert search.best.kl <= search.blocks_alone.kl
    assert (search.searched_tokens, search.held_tokens) == (64, 16)
    report = results["report"]
    assert report.target.met
    assert "halves of blocks had to go" in report.target.message
    page = unescape((folders["report"] / "report.html").read_text())
    for words in ("Halves of blocks removed", "Whole blocks alone", "Sum of single choices", "had to go, and"):
        assert words in page
    assert "Joint pruning (Bercovich et al. 2024, Puzzle" in page
    assert "were named in the job" not in page


def test_whole_blocks_alone_make_a_plain_checkpoint(root: Path) -> None:
    results, _ = run_job(root, spec({"parameters": 0.8}, choices=["block"]))
    pruned: Pruned = results["prune"]
    assert pruned.dropped
    assert len(pruned.units) == 2 * len(pruned.dropped)
    assert not pruned.needs_loader
    assert pruned.joint is not None
    assert pruned.joint.blocks_alone is None


def test_halves_that_are_nearer_on_the_text_of_the_search_alone_are_set_aside(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fooled(*args: Any, **kwargs: Any) -> JointFound:
        found = search_parts(*args, **kwargs)
        return replace(found, best=replace(found.best, kl_held=9.0))

    monkeypatch.setattr("workers.stages.prune_joint.search_parts", fooled)
    results, folders = run_job(root, spec({"parameters": 0.8}))
    pruned: Pruned = results["prune"]
    search = pruned.joint
    assert search is not None
    assert search.best == search.blocks_alone
    assert search.best.units == pruned.units
    assert len(pruned.units) == 2 * len(pruned.dropped)
    assert not pruned.needs_loader
    assert search.set_aside is not None
    assert search.set_aside.kl_held == 9.0
    assert search.set_aside.kl < search.best.kl
    assert sum(part.saved for part in search.parts if part.removed) == search.best.saved
    page = unescape((folders["report"] / "report.html").read_text())
    assert "Halves set aside" in page
    assert "On held-out samples whole blocks alone are nearer, so these went" in page


def test_a_divergence_that_is_no_number_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> JointFound:
        found = search_parts(*args, **kwargs)
        return replace(found, best=replace(found.best, kl_held=float("nan")))

    monkeypatch.setattr("workers.stages.prune_joint.search_parts", broken)
    with pytest.raises(StageFailed, match="not finite"):
        run_job(root, spec({"parameters": 0.8}))


def test_the_same_twice_is_the_same_to_the_bit(root: Path) -> None:
    found = []
    for name in "ab":
        results, folders = run_job(root, spec({"parameters": 0.85}), work=name)
        search = results["prune"].joint
        weights = (folders["prune"] / "checkpoint/model.safetensors").read_bytes()
        found.append((weights, search.best, search.parts, search.judged))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("target", "pruning", "pointer", "words"),
    [
        ({"parameters": 0.01}, {}, "/pruning/target/parameters", "even without all that may go"),
        ({"bytes": 1}, {"choices": ["attention"]}, "/pruning/target/bytes", "even without all that may go"),
        ({"bytes": 10**12}, {}, "/pruning/target/bytes", "bytes of weights as it is"),
        ({"parameters": 0.8}, {"protected": ["6.mlp"]}, "/pruning/protected/0", "there is no unit 6.mlp"),
        ({"parameters": 0.8}, {"plus": True}, "/pruning/plus", "nothing may go"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_searched(
    root: Path, target: dict[str, Any], pruning: dict[str, Any], pointer: str, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        run_job(root, spec(target, **pruning))
    assert caught.value.errors[0].pointer == pointer
    assert not (root / "work" / "prune").exists()


def test_what_is_left_is_healed_where_that_helps(root: Path) -> None:
    given = spec({"parameters": 0.8}, protected=["0.attention", "0.mlp"])
    healing = {"samples": 40, "tokens": 16}
    bare, folders = run_job(root, given, work="bare")
    assert bare["prune"].joint.healed == []
    results, healed_folders = run_job(root, {**given, "pruning": {**given["pruning"], "healing": healing}})
    pruned: Pruned = results["prune"]
    search = pruned.joint
    assert search is not None
    assert search.best.units == bare["prune"].joint.best.units
    assert search.best.kl_healed is not None
    assert search.blocks_alone is not None
    assert search.blocks_alone.kl_healed is not None
    assert search.best.kl_healed <= search.blocks_alone.kl_healed
    assert bare["prune"].joint.best.kl_healed is None
    last = search.healed[-1]
    assert search.best.kl_healed == pytest.approx(min(last.kl_before, last.kl_after), rel=1e-4)
    assert search.healed
    assert all(cut.folded == (cut.kl_after < cut.kl_before) for cut in search.healed)
    assert any(cut.folded for cut in search.healed), "something helps"
    files = [found["prune"] / "checkpoint/model.safetensors" for found in (folders, healed_folders)]
    assert files[0].stat().st_size == files[1].stat().st_size
    assert files[0].read_bytes() != files[1].read_bytes()
    page = unescape((healed_folders["report"] / "report.html").read_text())
    assert f"Healing of block {search.healed[0].block}" in page
