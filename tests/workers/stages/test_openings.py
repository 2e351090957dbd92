"""The stages that read the original: how often they read its headers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.spec import CompressionSpec
from tests.fixtures.whole_job import SHORT_SPEC, Job
from workers.engine.checkpoints.checkpoint import Checkpoint

TEXT = {"text": {"source": "self"}, "samples": 2, "tokens": 16}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every checkpoint that is opened from now on, as often as it is."""
    paths: list[Path] = []
    really = Checkpoint.open

    def counted(path: Path, **more: Any) -> Checkpoint:
        paths.append(path.resolve())
        return really(path, **more)

    monkeypatch.setattr(Checkpoint, "open", counted)
    return paths


def job_of(original: Path, **spec: Any) -> Job:
    return Job(original.parent, CompressionSpec.model_validate({**SHORT_SPEC, **spec}))


@pytest.mark.thorough
@pytest.mark.parametrize("first", [True, False], ids=["first to open it", "after the check"])
@pytest.mark.parametrize(
    "pruning",
    [
        {"kind": "depth", "drop": [1]},
        {"kind": "sub_block", "drop": ["1.mlp"]},
        {"kind": "sub_block", "units": 1, "calibration": TEXT},
        {"kind": "wanda_sp", "ratio": 0.2, "calibration": TEXT},
    ],
    ids=["depth", "sub_block", "sub_block by a search", "width"],
)
def test_a_prune_opens_the_original_once(
    first: bool, pruning: dict[str, Any], tiny_checkpoint: Callable[..., Path], opened: list[Path]
) -> None:
    original = tiny_checkpoint()
    job = job_of(original, pruning=pruning)
    if not first:
        job.run("check")
        opened.clear()
    job.run("prune")
    assert opened.count(original.resolve()) == 1
    assert len(opened) == 2  # and what was written


@pytest.mark.parametrize("streamed", [False, True], ids=["in memory", "from disk"])
def test_a_scoring_opens_the_original_once(
    streamed: bool, tiny_checkpoint: Callable[..., Path], opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if streamed:
        monkeypatch.setattr("workers.stages.block_model.available_memory", lambda device: 0)
    original = tiny_checkpoint()
    job = job_of(
        original,
        scoring={"criterion": "perplexity", "calibration": TEXT},
        pruning={"kind": "depth", "blocks": 1},
    )
    job.run("score")
    assert opened == [original.resolve()]
