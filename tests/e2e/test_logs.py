"""Errors that hold secrets, in each process of the service: what is printed has none, and tells whose error it was."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.db.origin import Origin
from secateur.contract.jobs import State
from tests.fixtures.service import PATIENCE, Service
from tests.fixtures.stages import LEAK

KEY, PASSWORD, TOKEN = "key-of-a-pipeline", "hunter2", "hf_AbCdEf12345678"
MASKED = "no answer from postgresql://secateur:***@db/secateur with api_key=*** and ***"
BROKEN_API = f"""
import app.serve as serve
make = serve.create_app
def broken():
    raise RuntimeError({LEAK!r})
def create_app(settings, **more):
    application = make(settings, **more)
    application.add_api_route("/broken", broken)
    return application
serve.create_app = create_app
serve.main()
"""
BROKEN_WORKER = f"""
import workers.supervision.stage_run
def broken(self):
    raise RuntimeError({LEAK!r})
workers.supervision.stage_run.StageRun.run = broken
"""


@pytest.fixture(autouse=True)
def _a_secret_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_API_KEYS", KEY)


def lines(log: Path) -> list[dict[str, Any]]:
    """What a process has said in whole lines; all of it is masked, and every line of it is an object with a time."""
    text = log.read_text().rpartition("\n")[0]
    assert not re.search("|".join((KEY, PASSWORD, TOKEN)), text)
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert all(line["time"].endswith("Z") and line["level"] and line["logger"] for line in found)
    return found


def awaited(log: Path, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first such line, which may come later than what it is about."""
    give_up = time.monotonic() + PATIENCE
    while (found := next(filter(wanted, lines(log)), None)) is None:
        assert time.monotonic() < give_up, log.read_text()
        time.sleep(0.05)
    return found


def test_the_api(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as output:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/broken"
        command = [sys.executable, "-P", "-c", BROKEN_API, "--fd", str(listener.fileno())]
        environment = {**os.environ, "SECATEUR_DATA_DIR": str(tmp_path)}
        api = subprocess.Popen(command, env=environment, stderr=output, pass_fds=[listener.fileno()])
        try:
            answer = httpx.get(address, timeout=60.0)
        finally:
            api.terminate()
            api.wait()
    assert answer.status_code == 500
    defect = next(line for line in lines(log) if "exception" in line)
    assert defect["request_id"] == answer.json()["request_id"]
    assert MASKED in defect["exception"]


def test_the_worker(service: Service) -> None:
    worker = service.worker(before=BROKEN_WORKER, max_attempts="1", lease_seconds="20")
    job = service.settled(service.submit(), State.FAILED)
    assert job.problem is not None
    assert MASKED in job.problem["detail"]
    ran = awaited(worker.log, lambda line: "succeeded" in line["message"] and "attempt" in line)  # Celery's own line
    assert (ran["logger"].partition(".")[0], ran["job_id"], ran["attempt"]) == ("celery", str(job.id), 1)
    told = lines(worker.log)
    defect = next(line for line in told if MASKED in line.get("exception", ""))
    assert (defect["job_id"], defect["stage"], defect["attempt"]) == (str(job.id), "check", 1)
    # a message may be delivered more than once; each delivery is told with the stage that it names
    from_celery = [line for line in told if line["logger"].startswith("celery.") and "stage_id" in line]
    assert {line["stage_id"] for line in from_celery} == {str(job.stages[0].id)}
    assert any("received" in line["message"] for line in from_celery)
    assert len([line for line in from_celery if "succeeded" in line["message"] and "attempt" in line]) == 1


def test_a_stage(service: Service) -> None:
    worker = service.worker(max_attempts="1", lease_seconds="20")
    job = service.settled(service.submit(check="leak", origin=Origin("ci/1")), State.FAILED)
    printed = awaited(worker.log, lambda line: "the process printed" in line["message"])
    assert MASKED in printed["message"]
    assert (printed["job_id"], printed["stage"], printed["attempt"]) == (str(job.id), "check", 1)
    assert printed["request_id"] == "ci/1"
    # the line itself, for whoever reads the job's log
    assert service.logged(job.id, rf"\[critical *\] .* attempt=1 job_id={job.id} request_id=ci/1 stage=check")
    assert service.logged(job.id, re.escape(MASKED))
