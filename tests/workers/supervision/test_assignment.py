"""What a worker's settings become for a stage's process."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.blobs.store import LocalStore
from app.db.claims import Claim
from app.settings import Settings
from app.stored_file import StoredFile
from secateur.contract.protocol import WorkingDevice
from secateur.contract.spec import CompressionSpec
from workers.supervision.assignment import Assignment, Input

HUB, LOCAL = {"source": "hub", "id": "org/model"}, {"source": "local", "path": "m"}
DRAFT = {"use": "draft", "target_model": {"source": "hub", "id": "org/large"}}
TEXT_OF_HUB = {"source": "hub", "id": "org/text"}


@pytest.mark.parametrize(
    ("stage", "more", "expected"),
    [
        ("score", {"model": HUB}, True),
        ("report", {"model": HUB}, False),  # it reads what the others have left
        ("score", {}, False),
        ("score", {"scoring": {"criterion": "perplexity", "calibration": {"text": TEXT_OF_HUB}}}, True),
        ("prune", {"scoring": {"criterion": "perplexity", "calibration": {"text": TEXT_OF_HUB}}}, False),
        ("recover", {"recovery": {"kind": "lora", "text": TEXT_OF_HUB}}, True),
        ("benchmark", {"benchmark": {"perplexity": {"texts": [{"source": "named", "name": "wikitext2"}]}}}, True),
        ("benchmark", {"benchmark": {"tasks": {"tasks": ["piqa"]}}}, True),
        ("benchmark", {"benchmark": {"tasks": {"tasks": ["mine"], "folder": "tasks"}}}, False),
        ("benchmark", {}, False),
        ("benchmark", DRAFT, True),
        ("recover", DRAFT, True),
        ("prune", DRAFT, False),
    ],
)
def test_a_stage_has_the_hubs_token_if_it_may_fetch(stage: str, more: dict[str, Any], expected: bool) -> None:
    asked = CompressionSpec.model_validate({"model": LOCAL, "pruning": {"kind": "depth", "blocks": 1}, **more})
    claim = Claim(job_id=uuid.uuid4(), stage_id=uuid.uuid4(), key=stage, kind=stage, attempt=1, token=1)
    assert Assignment(claim, datetime.now(UTC), asked, {}, {}, {}).fetches is expected


@pytest.mark.parametrize(("value", "expected"), [(None, 1), ("4", 4), ("auto", "auto")])
def test_a_stage_is_told_how_many_processes_may_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, expected: int | str
) -> None:
    if value is not None:
        monkeypatch.setenv("SECATEUR_TRAINING_PROCESSES", value)
    asked = CompressionSpec.model_validate(
        {"model": {"source": "hub", "id": "org/model"}, "pruning": {"kind": "depth", "blocks": 1}}
    )
    claim = Claim(job_id=uuid.uuid4(), stage_id=uuid.uuid4(), key="recover", kind="recover", attempt=1, token=1)
    assignment = Assignment(claim, datetime.now(UTC), asked, {}, {}, {})
    spec = assignment.spec(
        Settings(data_dir=tmp_path),
        LocalStore(tmp_path / "artifacts"),
        tmp_path / "work",
        device=WorkingDevice(setting="cuda", kind="card 9.0", dtype="bfloat16"),
        check=lambda: None,
    )
    assert spec.runtime.training_processes == expected
    assert spec.runtime.device == "cuda"  # what the worker's probe has found, and not the setting's `auto`


def test_of_a_plan_the_number_of_blocks_decides_and_its_timings_do_not() -> None:
    file = StoredFile("plan.json", "key", 1, "sha", "application/json")
    plan = Input("plan", "output", [file], {"removed": 8, "seconds": 81.5})
    assert plan.decisive() == [("removed", "8")]
    assert Input("score", "output", [file], {"seconds": 2.0}).decisive() == [("plan.json", "sha")]
