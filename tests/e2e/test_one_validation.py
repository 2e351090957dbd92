"""A spec is read once by each process that it comes to, and checked by none of them a second time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.blobs.store import LocalStore
from app.db import claims
from app.db.session import SessionFactory, unit_of_work
from app.main import create_app
from app.settings import Settings
from secateur.contract.presets import Preset, fill_in
from secateur.contract.protocol import StageSpec, WorkingDevice
from workers.supervision import assignment

BODY = {"preset": "quick", "model": {"source": "hub", "id": "org/model"}, "pruning": {"kind": "depth", "blocks": 2}}


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for each time that a spec is validated: its preset is filled in then."""
    seen: list[str] = []

    def counted(spec: Mapping[str, Any], preset: Preset) -> dict[str, Any]:
        seen.append(preset.name)
        return fill_in(spec, preset)

    monkeypatch.setattr("secateur.contract.spec.fill_in", counted)
    return seen


@contextmanager
def once(validated: list[str]) -> Iterator[None]:
    before = len(validated)
    yield
    assert len(validated) == before + 1


def test_from_the_request_to_the_stage(
    sessions: SessionFactory, database_url: str, redis_url: str, tmp_path: Path, validated: list[str]
) -> None:
    settings = Settings(database_url=database_url, redis_url=redis_url, data_dir=tmp_path)
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client, once(validated):
        assert client.post("/jobs", json=BODY).status_code == 202
    with once(validated):
        stage = stage_spec(settings, sessions, tmp_path)
    written = stage.model_dump_json()
    with once(validated):
        read = StageSpec.model_validate_json(written)
    assert read.spec == stage.spec


def stage_spec(settings: Settings, sessions: SessionFactory, folder: Path) -> StageSpec:
    """What the supervisor makes of the job's first stage."""
    with unit_of_work(sessions) as session:
        claim = claims.claim_next(session, worker="w", lease_seconds=60)
        assert claim is not None
        assigned = assignment.load(session, claim)
        assert assigned is not None
    device = WorkingDevice(setting="cpu", kind="cpu", dtype="float32")
    return assigned.spec(settings, LocalStore(folder / "store"), folder / "work", device=device, check=lambda: None)
