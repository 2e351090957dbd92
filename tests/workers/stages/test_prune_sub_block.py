"""A job of sub-block pruning through its stages: searched for in the prune stage, and taken by all that come after."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from secateur.contract.errors import InvalidInput, UnsupportedModel
from secateur.contract.measurements import Benchmarks
from secateur.contract.results import Pruned, Recovered
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of
from tests.fixtures.whole_job import SHORT_SPEC, run_job, tiny_llama

CALIBRATION = {"samples": 4, "tokens": 16}
# nothing but what is counted in the files
OFF = {"latency": None, "perplexity": None, "fidelity": {"enabled": False}, "samples": None, "generation": None}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny_llama(spread=0.08).save_pretrained(tmp_path / "tiny")
    return tmp_path


@pytest.mark.thorough
@pytest.mark.parametrize("recovery", ["lora", "distill", "continued"])
def test_a_job_of_searched_halves(recovery: str, root: Path) -> None:
    pruning = {"kind": "sub_block", "units": 3, "protected": ["0.attention"], "calibration": CALIBRATION}
    spec = {**SHORT_SPEC, "pruning": pruning, "recovery": {**SHORT_SPEC["recovery"], "kind": recovery}}
    assert kinds_of(CompressionSpec.model_validate(spec)) == (
        "check",
        "prune",
        "recover",
        "benchmark",
        "report",
    )
    results, folders = run_job(root, spec)

    pruned: Pruned = results["prune"]
    scores = pruned.unit_scores
    assert scores is not None
    assert sorted(scores.order[:3]) == sorted(pruned.units)
    assert [entry["removed"] for entry in scores.details["rounds"]] == scores.order[:3]
    assert scores.protected == ["0.attention"]
    assert "0.attention" not in scores.order
    assert [score.unit for score in scores.units] == [f"{b}.{half}" for b in range(6) for half in ("attention", "mlp")]
    assert [score.unit for score in scores.units if score.value is None] == ["0.attention"]
    assert all((score.standard_error or 0) > 0 for score in scores.units if score.value is not None)
    assert scores.environment.versions["torch"]
    assert pruned.calibration is not None
    assert pruned.calibration.samples == 4
    assert pruned.needs_loader
    assert len(pruned.kept) + len(pruned.dropped) == 6

    recovered: Recovered = results["recover"]
    assert recovered.steps == 2
    benchmarks: Benchmarks = results["benchmark"]
    assert [m.variant for m in benchmarks.variants] == ["original", "pruned", "recovered"]
    assert benchmarks.variants[1].parameters == pruned.parameters_after < pruned.parameters_before
    assert benchmarks.variants[1].fidelity[0].kl > 0
    assert benchmarks.variants[2].latency[0].speedup is not None
    for name in ("prune", "recover"):
        checkpoint = folders[name] / "checkpoint"
        assert (checkpoint / "modeling_secateur.py").is_file()
        card = (checkpoint / "README.md").read_text()
        assert "Plain transformers cannot load this checkpoint" in card
        assert "Sub-block pruning (Zhong et al. 2024, BlockPruner" in card
        assert "Halves of blocks removed: " in card
    page = (folders["report"] / "report.html").read_text()
    assert "3 of 12 halves of blocks removed" in page
    assert ", ".join(scores.order) in page
    markdown = (folders["report"] / "report.md").read_text()
    assert "Plain transformers cannot load this checkpoint" in markdown


def test_attentions_alone_go_as_far_as_llama_cpp(tmp_path: Path, tiny_checkpoint: Callable[..., Path]) -> None:
    root = tiny_checkpoint(hidden_size=64, intermediate_size=256).parent
    pruning = {"kind": "sub_block", "only": "attention", "units": 2, "protected": ["0.attention"]}
    benchmark = {**OFF, "perplexity": {"tokens": 16, "windows": 4}}
    spec = {**SHORT_SPEC, "benchmark": benchmark, "quantise": [{"kind": "gguf", "type": "Q8_0"}]}
    results, folders = run_job(root, {**spec, "pruning": {**pruning, "calibration": CALIBRATION}})
    assert all(unit.endswith(".attention") for unit in results["prune"].units)
    assert results["prune"].decilm
    for name in ("prune", "recover"):
        assert json.loads((folders[name] / "checkpoint/config.json").read_text())["model_type"] == "nemotron-nas"
        assert "trust_remote_code=True" in (folders[name] / "checkpoint/README.md").read_text()
    variants = {m.variant: m.perplexity[0].value for m in results["benchmark"].variants}
    assert variants["recovered-gguf-q8_0"] == pytest.approx(variants["recovered"], rel=0.02)

    file = folders["quantise"] / "gguf-q8_0/model-Q8_0.gguf"
    shutil.copy(file, root / "again.gguf")
    for again in ({"kind": "depth"}, {"kind": "sub_block"}, {"kind": "flap"}):
        given = {**SHORT_SPEC, "model": {"source": "local", "path": "again.gguf"}, "pruning": {**again, "ratio": 0.2}}
        with pytest.raises(UnsupportedModel, match="have lost halves"):
            run_job(root, given, work="again")


def test_the_same_twice_is_the_same_to_the_bit(root: Path) -> None:
    pruning = {"kind": "sub_block", "ratio": 0.25, "plus": False, "calibration": CALIBRATION}
    spec = {**SHORT_SPEC, "pruning": pruning, "recovery": {"kind": "none"}, "benchmark": OFF}
    files = []
    for name in "ab":
        results, folders = run_job(root, spec, work=name)
        scores = results["prune"].unit_scores
        weights = (folders["prune"] / "checkpoint" / "model.safetensors").read_bytes()
        files.append((weights, scores.units, scores.order, scores.details))
    assert files[0] == files[1]
    assert len(files[0][3]["rounds"]) == 3


def test_named_halves_need_no_search(root: Path) -> None:
    pruning = {"kind": "sub_block", "drop": ["5.mlp", "2.attention", "2.mlp"]}
    spec = {**SHORT_SPEC, "pruning": pruning, "recovery": {"kind": "none"}, "benchmark": OFF}
    results, folders = run_job(root, spec)
    pruned: Pruned = results["prune"]
    assert pruned.units == ["2.attention", "2.mlp", "5.mlp"]
    assert (pruned.dropped, pruned.kept) == ([2], [0, 1, 3, 4, 5])
    assert pruned.unit_scores is None
    assert pruned.calibration is None
    page = (folders["report"] / "report.html").read_text()
    assert "none: the halves were named in the job" in page
    assert "1 attention, 2 MLP, 1 block whole" in page


def test_whole_blocks_load_as_they_are(root: Path) -> None:
    pruning = {"kind": "sub_block", "drop": ["2.attention", "2.mlp"]}
    spec = {**SHORT_SPEC, "pruning": pruning, "recovery": {"kind": "none"}, "benchmark": OFF}
    results, folders = run_job(root, spec)
    assert not results["prune"].needs_loader
    checkpoint = folders["prune"] / "checkpoint"
    assert AutoModelForCausalLM.from_pretrained(checkpoint).config.num_hidden_layers == 5
    assert "modeling_secateur" not in (checkpoint / "README.md").read_text()


def test_what_the_model_has_not_got_is_refused_before_anything_is_written(root: Path) -> None:
    for pruning, pointer in (
        ({"drop": ["6.mlp"]}, "/pruning/drop/0"),
        ({"units": 12}, "/pruning/units"),
        ({"units": 1, "protected": ["6.attention"]}, "/pruning/protected/0"),
    ):
        with pytest.raises(InvalidInput) as caught:
            run_job(root, {**SHORT_SPEC, "pruning": {"kind": "sub_block", **pruning}})
        assert caught.value.errors[0].pointer == pointer
        assert not (root / "work" / "prune").exists()


def test_the_result_is_json(root: Path) -> None:
    pruning = {"kind": "sub_block", "units": 1, "calibration": CALIBRATION}
    spec = {**SHORT_SPEC, "pruning": pruning, "recovery": {"kind": "none"}, "benchmark": OFF}
    _, folders = run_job(root, spec)
    written = json.loads((folders["prune"] / "pruned.json").read_text())
    assert written["calibration"]["sha256"]
    assert written["unit_scores"]["options"]["units"] == 1
    assert Pruned.model_validate(written).unit_scores is not None
