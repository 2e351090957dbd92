"""A job of expert pruning through its stages: nothing is scored, and later stages take what is left as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from secateur.contract.errors import InvalidInput, UnsupportedModel
from secateur.contract.measurements import Benchmarks
from secateur.contract.results import Pruned
from secateur.contract.spec import CompressionSpec
from tests.fixtures.whole_job import SHORT_SPEC, Job, run_job
from workers.stages.original import calibration_tokens

CALIBRATION = {"samples": 4, "tokens": 16}
PRUNING = {"kind": "experts", "ratio": 0.5, "calibration": CALIBRATION}


@pytest.fixture(name="root")
def _root(tiny_checkpoint: Callable[..., Path]) -> Path:
    return tiny_checkpoint(model_type="mixtral", num_hidden_layers=3, num_local_experts=4).parent


def test_a_job(root: Path) -> None:
    results, folders = run_job(root, {**SHORT_SPEC, "pruning": PRUNING})
    assert list(results) == ["check", "prune", "recover", "benchmark", "report"]
    pruned: Pruned = results["prune"]
    assert pruned.kept == [0, 1, 2]
    assert pruned.experts is not None
    assert (pruned.experts.before, pruned.experts.after, pruned.experts.per_token) == (4, 2, 2)
    assert [(len(m.kept), len(m.scores)) for m in pruned.experts.mixtures] == [(2, 4)] * 3
    assert pruned.calibration is not None
    assert pruned.calibration.samples == 4
    assert not pruned.needs_loader
    for stage in ("prune", "recover"):
        assert AutoConfig.from_pretrained(folders[stage] / "checkpoint").num_local_experts == 2
        assert "2 of 4 experts in each of 3 blocks" in (folders[stage] / "checkpoint" / "README.md").read_text()
    benchmarks: Benchmarks = results["benchmark"]
    assert [m.variant for m in benchmarks.variants] == ["original", "pruned", "recovered"]
    assert benchmarks.variants[1].fidelity[0].kl > 0
    assert "2 of 4 experts removed in 3 blocks" in (folders["report"] / "report.html").read_text()


@pytest.mark.parametrize("stage", ["check", "prune"])
def test_a_model_without_experts_is_refused_before_a_text_is_read(
    stage: str, root: Path, tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*args: Any, **options: Any) -> Any:
        raise AssertionError("a text was read")

    monkeypatch.setattr("workers.stages.prune_experts.calibration_tokens", read)
    tiny_checkpoint()  # in the place of the mixture
    with pytest.raises(UnsupportedModel, match="no mixture of experts") as caught:
        Job(root, CompressionSpec.model_validate({**SHORT_SPEC, "pruning": PRUNING})).run(stage)
    assert [error.pointer for error in caught.value.errors] == ["/pruning/kind"]


def test_a_token_out_of_range_is_told_at_the_calibration(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_range(*args: Any, **options: Any) -> Any:
        ids, text = calibration_tokens(*args, **options)
        return ids + 1_000_000, text

    monkeypatch.setattr("workers.stages.prune_experts.calibration_tokens", out_of_range)
    with pytest.raises(InvalidInput, match="go up to") as caught:
        Job(root, CompressionSpec.model_validate({**SHORT_SPEC, "pruning": PRUNING})).run("prune")
    assert [error.pointer for error in caught.value.errors] == ["/pruning/calibration"]
