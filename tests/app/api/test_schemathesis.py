"""Requests made up from the OpenAPI document, on the live application: no 500, and every answer is one it declares.

Half of the paths name a job that exists. A few requests for each operation, so that the suite stays quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.api import example_specs
from app.blobs.store import open_store
from app.local.embedded import PostgresServer, ValkeyServer
from app.main import create_app
from app.settings import Settings
from tests.fixtures.live import serving
from tests.fixtures.played_service import RESULTS
from tests.fixtures.played_worker import PlayedWorker
from tests.fixtures.servers import database_of

_jobs: list[str] = []


def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Name a job that exists, in every other case."""
    if path_parameters and "job_id" in path_parameters and str(path_parameters["job_id"])[-1] in "02468ace":
        path_parameters = {**path_parameters, "job_id": _jobs[0]}
        if "path" in path_parameters and len(str(path_parameters["path"])) % 2:
            path_parameters["path"] = "prune/a.txt"
    return path_parameters


@pytest.fixture(scope="module")
def document(
    postgres_server: PostgresServer,
    template_database: str,
    valkey_server: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    import httpx

    from app.db.session import make_engine, make_session_factory

    folder: Path = tmp_path_factory.mktemp("api")
    for url in database_of(postgres_server, template_database):
        app = create_app(Settings(database_url=url, redis_url=valkey_server.url, data_dir=folder))
        app.state.ping_seconds = 0.2
        engine = make_engine(url)
        (folder / "scratch").mkdir()
        store = open_store(app.state.settings.store_url)
        worker = PlayedWorker(make_session_factory(engine), store, folder / "scratch", RESULTS)
        with serving(app) as base, httpx.Client(base_url=base, timeout=60) as client:
            for _ in range(2):
                job = client.post(
                    "/jobs", json={**example_specs.EXPLICIT_DROP, "model": example_specs.HUB_WITH_GATES["model"]}
                )
                _jobs.append(job.json()["id"])
                worker.finish(_jobs[-1], {"prune": {"a.txt": b"0123456789"}})
            loaded = schemathesis.openapi.from_url(f"{base}/openapi.json", timeout=60)
            loaded.hook(map_path_parameters)
            yield loaded
        engine.dispose()


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.mark.thorough
def test_made_up_requests(document: Any) -> None:
    tried = []
    for found in document.exclude(path="/jobs/{job_id}", method="DELETE").get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=10,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(case=operation.as_strategy())
        def request(case: Any) -> None:
            case.call_and_validate(checks=CHECKS, timeout=60)

        request()
        tried.append(operation.label)
    assert len(tried) >= 15
