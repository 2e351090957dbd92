"""A job of width pruning through its stages: nothing is scored, and later stages take uneven widths as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from secateur.contract.measurements import Benchmarks
from secateur.contract.results import Pruned, Recovered
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of
from tests.fixtures.whole_job import SHORT_SPEC, Job, run_job, tiny_llama
from workers.stages.original import calibration_tokens

CALIBRATION = {"samples": 4, "tokens": 16}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    model = tiny_llama(intermediate_size=96, num_attention_heads=8, num_key_value_heads=4)
    model.save_pretrained(tmp_path / "tiny")
    return tmp_path


def test_a_job_of_uneven_widths(root: Path) -> None:
    pruning = {"kind": "flap", "ratio": 0.2, "uniform": False, "calibration": CALIBRATION}
    spec = {**SHORT_SPEC, "pruning": pruning}
    assert kinds_of(CompressionSpec.model_validate(spec)) == (
        "check",
        "prune",
        "recover",
        "benchmark",
        "report",
    )
    results, folders = run_job(root, spec)

    pruned: Pruned = results["prune"]
    assert pruned.kept == list(range(6))
    assert pruned.dropped == []
    assert len(pruned.widths) == 6
    assert pruned.calibration is not None
    assert pruned.calibration.samples == 4
    assert pruned.needs_loader
    assert abs(1 - pruned.parameters_after / pruned.parameters_before - 0.2) <= 0.01
    recovered: Recovered = results["recover"]
    assert recovered.steps == 2
    benchmarks: Benchmarks = results["benchmark"]
    assert [m.variant for m in benchmarks.variants] == ["original", "pruned", "recovered"]
    assert benchmarks.variants[1].fidelity[0].kl > 0
    for stage_name in ("prune", "recover"):
        folder = folders[stage_name] / "checkpoint"
        assert (folder / "README.md").is_file()
        assert (folder / "modeling_secateur.py").is_file()
    page = (folders["report"] / "report.html").read_text()
    assert "eads and neurons removed in 6 blocks" in page


@pytest.mark.parametrize("kind", ["wanda_sp", "flap", "llm_pruner"])
def test_a_token_out_of_range_is_told_at_the_calibration_of_the_pruning(
    kind: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_range(*args: Any, **options: Any) -> Any:
        ids, text = calibration_tokens(*args, **options)
        return ids + 1_000_000, text

    monkeypatch.setattr("workers.stages.prune_width.calibration_tokens", out_of_range)
    spec = {**SHORT_SPEC, "pruning": {"kind": kind, "ratio": 0.2, "calibration": CALIBRATION}}
    with pytest.raises(InvalidInput, match="go up to") as caught:
        Job(root, CompressionSpec.model_validate(spec)).run("prune")
    assert [error.pointer for error in caught.value.errors] == ["/pruning/calibration"]
