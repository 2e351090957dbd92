"""One service for all submissions that are refused, and folders that a test fills."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.local.embedded import PostgresServer, ValkeyServer
from app.main import create_app
from app.settings import Settings
from tests.fixtures.model_folders import emptied
from tests.fixtures.servers import database_of


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp(name) for name in ("models", "texts")}


@pytest.fixture(scope="module")
def client(
    postgres_server: PostgresServer, template_database: str, valkey_server: ValkeyServer, roots: dict[str, Path]
) -> Iterator[TestClient]:
    """One application for all of these tests: what is refused leaves nothing behind, as each of them checks."""
    for url in database_of(postgres_server, template_database):
        settings = Settings(
            database_url=url,
            redis_url=valkey_server.url,
            model_roots=(roots["models"],),
            data_roots=(roots["texts"],),
        )
        with TestClient(create_app(settings), base_url="http://localhost") as client:
            yield client


@pytest.fixture
def model_root(roots: dict[str, Path]) -> Iterator[Path]:
    yield from emptied(roots["models"])


@pytest.fixture
def data_root(roots: dict[str, Path]) -> Iterator[Path]:
    yield from emptied(roots["texts"])
