"""No space left: under a stage, the store and the scratch folder."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.blobs.store import LocalStore
from secateur.contract.jobs import State
from tests.fixtures.service import Service
from tests.fixtures.supervisors import drive, make_supervisor
from workers.launch.fork_server import ForkServer


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        problem = done.stderr.strip() if done.returncode else ""
    except FileNotFoundError as error:
        problem = str(error)
    if problem:
        pytest.skip(f"a full disk needs the right to mount a small one: {problem}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_under_the_stage(service: Service, store: LocalStore, forkserver: ForkServer) -> None:
    """What the stage says of it is the job's problem; `/dev/full` is a disk that is always full."""
    job_id = service.submit(send=False, score="full")
    drive(service, make_supervisor(service, store, forkserver), job_id)
    problem = service.settled(job_id, State.FAILED).problem
    assert problem is not None
    assert "disk is full" in problem["detail"]
    published = [stage_id for stage_id, _, _ in store.attempts()]
    assert published == [service.job(job_id).stages[0].id]  # the check's, and nothing of the stage that failed


def test_a_full_disk_under_the_store(service: Service, forkserver: ForkServer, small_disk: Path) -> None:
    """Nothing is half published, and after space was made the retry publishes what the first attempt computed."""
    store = LocalStore(small_disk)
    supervisor = make_supervisor(service, store, forkserver)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_000_000)
    job_id = service.submit(send=False)
    drive(service, supervisor, job_id)
    problem = service.job(job_id).problem
    assert problem is not None
    assert problem["type"].endswith("/stage-failed")
    assert "no space left" in problem["detail"]
    assert list(store.attempts()) == []
    assert list((small_disk / ".partial").iterdir()) == []
    ballast.unlink()
    service.retry(job_id)
    drive(service, supervisor, job_id)
    assert service.job(job_id).state is State.SUCCEEDED
    assert service.started(job_id, "score") == 1


def test_a_full_disk_under_the_scratch(
    service: Service, store: LocalStore, forkserver: ForkServer, small_disk: Path
) -> None:
    settings = service.settings.model_copy(update={"data_dir": small_disk})
    (small_disk / "ballast").write_bytes(b"x" * (1 << 20))
    job_id = service.submit(send=False)
    drive(service, make_supervisor(service, store, forkserver, settings=settings), job_id)
    problem = service.job(job_id).problem
    assert problem is not None
    assert "no space left" in problem["detail"]
