"""A supervisor whose stages are scripts, and what it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.blobs.store import LocalStore
from tests.fixtures.service import Service
from tests.fixtures.supervisors import make_supervisor
from workers.launch.fork_server import ForkServer
from workers.supervision.supervisor import Supervisor

ENTRY = "tests.fixtures.stages:main"


@pytest.fixture(scope="module")
def forkserver() -> Iterator[ForkServer]:
    server = ForkServer(ENTRY, ())
    yield server
    server.stop()


@pytest.fixture
def store(service: Service) -> LocalStore:
    return LocalStore(service.settings.data_dir / "artifacts")


@pytest.fixture
def supervisor(service: Service, store: LocalStore, forkserver: ForkServer) -> Supervisor:
    return make_supervisor(service, store, forkserver)
