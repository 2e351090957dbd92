"""Fault 10, done to a real API process: SIGKILL after the job is committed and before its message is sent."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import redis
from sqlalchemy import select
from starlette.testclient import TestClient

from app.broker.messages import QUEUE
from app.db.session import unit_of_work
from app.db.tables.jobs import Job
from app.main import create_app
from secateur.contract.spec import CompressionSpec
from tests.fixtures.service import PATIENCE, Service

API_THAT_DIES = """
import os, signal, sys
import app.broker.sender

app.broker.sender.send_stages = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)

import uvicorn
from app.main import create_app

uvicorn.run(create_app(), port=int(sys.argv[1]), log_level="warning")
"""
BODY = {"model": {"source": "local", "path": "m"}, "pruning": {"kind": "depth", "blocks": 1}}
KEY = {"Idempotency-Key": "pipeline-7"}


@pytest.mark.thorough
def test_a_job_survives_the_api_that_took_it(service: Service, tmp_path: Path) -> None:
    """The client may never get an answer. Its job runs all the same, and asking again with its key finds that job."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = service.settings.model_copy(update={"check_local": False})
    environment = {
        **os.environ,
        "SECATEUR_DATABASE_URL": str(settings.database_url),
        "SECATEUR_REDIS_URL": str(settings.redis_url),
        "SECATEUR_DATA_DIR": str(settings.data_dir),
        "SECATEUR_CHECK_LOCAL": "false",
    }
    api = subprocess.Popen([sys.executable, "-c", API_THAT_DIES, str(port)], env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            _until_it_answers(client, api)
            with suppress(httpx.TransportError):  # it may die before its answer, or just after
                client.post("/jobs", json=BODY, headers=KEY)
        assert api.wait(PATIENCE) == -9
    finally:
        api.kill()
        api.wait()

    with unit_of_work(service.sessions) as session:
        (job,) = session.scalars(select(Job))
    with redis.Redis.from_url(str(settings.redis_url)) as broker:
        assert broker.llen(QUEUE) == 0  # committed, and never sent
    with TestClient(create_app(settings), base_url="http://localhost") as second:
        again = second.post("/jobs", json=BODY, headers=KEY)
    assert (again.status_code, again.json()["id"]) == (202, str(job.id))
    assert CompressionSpec.model_validate(again.json()["spec"]) == CompressionSpec.model_validate(BODY)
    service.worker()
    service.settled(job.id)


def _until_it_answers(client: httpx.Client, api: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            client.get("/healthz")
            return
        except httpx.TransportError:
            assert api.poll() is None, "the API did not start"
            assert time.monotonic() < give_up
            time.sleep(0.05)
