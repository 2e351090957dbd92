"""The prune stage: how often it reads the headers of what it prunes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.spec import CompressionSpec
from tests.fixtures.whole_job import SHORT_SPEC, Job
from workers.engine.checkpoints.checkpoint import Checkpoint


@pytest.mark.parametrize("first", [True, False], ids=["first to open it", "after the check"])
@pytest.mark.parametrize(
    "pruning", [{"kind": "depth", "drop": [1]}, {"kind": "sub_block", "drop": ["1.mlp"]}], ids=["depth", "sub_block"]
)
def test_the_original_is_opened_once(
    first: bool, pruning: dict[str, Any], tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = tiny_checkpoint()
    job = Job(original.parent, CompressionSpec.model_validate({**SHORT_SPEC, "pruning": pruning}))
    if not first:
        job.run("check")
    opened: list[Path] = []
    really = Checkpoint.open

    def counted(path: Path, **more: Any) -> Checkpoint:
        opened.append(path.resolve())
        return really(path, **more)

    monkeypatch.setattr(Checkpoint, "open", counted)
    job.run("prune")
    assert opened.count(original.resolve()) == 1
    assert len(opened) == 2  # and what was written
