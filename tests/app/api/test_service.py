"""Health, readiness, metrics, catalogue; and that the API loads no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from secateur.contract.catalog import TABLES
from tests.fixtures.played_worker import PlayedWorker

Submit = Callable[..., dict[str, Any]]


def test_the_process_is_alive_without_anything_else(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(database_url=None, redis_url=None)
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        assert client.get("/healthz").json()["status"] == "ok"
        response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["ready"] is False


def test_the_service_is_ready(client: TestClient) -> None:
    response = client.get("/readyz")
    assert response.status_code == 200
    assert {name: check["ok"] for name, check in response.json()["checks"].items()} == {
        "database": True,
        "migrations": True,
        "broker": True,
        "store": True,
        "workers": False,  # which keeps nobody from asking
    }
    assert "jobs wait" in response.json()["checks"]["workers"]["detail"]


def test_a_database_without_the_schema_is_not_ready(
    make_settings: Callable[..., Settings], empty_database_url: str
) -> None:
    with TestClient(create_app(make_settings(database_url=empty_database_url)), base_url="http://localhost") as client:
        response = client.get("/readyz")
    checks = response.json()["checks"]
    assert response.status_code == 503
    assert (checks["database"]["ok"], checks["migrations"]["ok"]) == (True, False)


def test_a_broker_that_is_away_is_named_without_its_address(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(redis_url="redis://:hunter2@127.0.0.1:1/0")
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"]["broker"]["ok"] is False
    assert "hunter2" not in response.text


def test_metrics_count_jobs_and_requests(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    done = submit()["id"]
    worker.finish(done)
    submit()
    client.get(f"/jobs/{done}")
    client.get("/nowhere/at/all")
    lines = client.get("/metrics").text.splitlines()
    assert 'secateur_jobs{state="succeeded"} 1.0' in lines
    assert 'secateur_jobs{state="queued"} 1.0' in lines
    assert 'secateur_jobs{state="failed"} 0.0' in lines
    assert "secateur_stages_waiting 1.0" in lines
    assert "secateur_broker_messages 2.0" in lines
    assert 'secateur_up{part="database"} 1.0' in lines
    assert 'secateur_up{part="broker"} 1.0' in lines
    counts = [line for line in lines if line.startswith("secateur_http_request_seconds_count")]
    assert any('method="POST",route="/jobs",status="202"} 2.0' in line for line in counts)
    assert any('route="/jobs/{job_id}",status="200"} 1.0' in line for line in counts)
    assert not any(done in line or "nowhere" in line for line in lines)  # ids and strays make no series


def test_metrics_without_a_database(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(database_url="postgresql://nobody@127.0.0.1:1/none", redis_url=None)
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        text = client.get("/metrics").text
    assert 'secateur_up{part="database"} 0.0' in text
    assert 'secateur_up{part="broker"} 0.0' in text


def test_the_catalogue_has_every_method_with_its_options(client: TestClient) -> None:
    catalog = client.get("/catalog").json()
    for table, rows in TABLES.items():
        assert [method["name"] for method in catalog[table]] == list(rows)
        for method in catalog[table]:
            assert method["paper"]
            assert method["options"]["type"] == "object"
    assert "CompressionSpec" in catalog["spec"]["title"]


@pytest.mark.thorough
def test_the_api_loads_no_torch() -> None:
    code = (
        "import sys, app.main; app.main.create_app().openapi(); heavy = "
        "{'torch', 'transformers', 'peft', 'datasets', 'lm_eval', 'accelerate', 'pyarrow'}; "
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == ""
