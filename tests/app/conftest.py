"""The API under test: the real application on a real database and broker, with folders of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.blobs.store import open_store
from app.db.session import SessionFactory
from app.main import create_app
from app.settings import Settings
from tests.fixtures.played_service import RESULTS
from tests.fixtures.played_worker import PlayedWorker

BASE_URL = "http://127.0.0.1:8000"
SPEC: dict[str, Any] = {
    "model": {"source": "hub", "id": "some/model"},
    "pruning": {"kind": "depth", "blocks": 1},
    "recovery": {"kind": "none"},
}


@pytest.fixture
def model_root(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    root.mkdir()
    return root


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    root = tmp_path / "texts"
    root.mkdir()
    return root


@pytest.fixture
def make_settings(
    database_url: str, redis_url: str, tmp_path: Path, model_root: Path, data_root: Path
) -> Callable[..., Settings]:
    """Settings on this test's own database, broker and folders."""

    def make(**changes: Any) -> Settings:
        values: dict[str, Any] = {
            "database_url": database_url,
            "redis_url": redis_url,
            "data_dir": tmp_path / "data",
            "model_roots": (model_root,),
            "data_roots": (data_root,),
        }
        return Settings(**{**values, **changes})

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


@pytest.fixture
def application(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def client(application: FastAPI) -> Iterator[TestClient]:
    with TestClient(application, base_url=BASE_URL) as client:
        yield client


@pytest.fixture
def spec() -> dict[str, Any]:
    """A body that any service takes: a small job on a hub model."""
    copy: dict[str, Any] = json.loads(json.dumps(SPEC))
    return copy


@pytest.fixture
def worker(sessions: SessionFactory, settings: Settings, tmp_path: Path) -> PlayedWorker:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return PlayedWorker(sessions, open_store(settings.store_url), scratch, RESULTS)


@pytest.fixture
def submit(client: TestClient, spec: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Submit `spec` with changes; the job."""

    def post(**changes: Any) -> dict[str, Any]:
        response = client.post("/jobs", json={**spec, **changes})
        assert response.status_code == 202, response.text
        body: dict[str, Any] = response.json()
        return body

    return post
