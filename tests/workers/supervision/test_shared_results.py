"""Results that identical stages of different jobs share."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from app.blobs.store import LocalStore
from app.db import jobs
from app.db.session import unit_of_work
from app.services import sweeps
from app.services.work import Work
from secateur.contract.jobs import State
from secateur.contract.sweep import SweepSpec
from tests.fixtures.service import STAGES, Service
from tests.fixtures.supervisors import drive, make_janitor, make_supervisor
from workers.launch.device import SoundDevice
from workers.launch.fork_server import ForkServer
from workers.supervision.supervisor import Supervisor


@pytest.fixture
def sharing(service: Service, store: LocalStore, forkserver: ForkServer, tmp_path: Path) -> Supervisor:
    """A supervisor whose jobs have a model that exists, so that stages can be told to be identical."""
    (tmp_path / "models" / "m").mkdir(parents=True)
    (tmp_path / "models" / "m" / "config.json").write_text("{}")
    settings = service.settings.model_copy(update={"model_roots": (tmp_path / "models",)})
    return make_supervisor(service, store, forkserver, settings=settings)


def test_identical_stages_share_a_result(service: Service, sharing: Supervisor, store: LocalStore) -> None:
    first, second = service.submit(send=False), service.submit(send=False)
    drive(service, sharing, first)
    drive(service, sharing, second)
    for job_id in (first, second):
        service.settled(job_id)
    assert [service.started(first, name) for name in STAGES] == [1] * len(STAGES)
    assert [service.started(second, name) for name in STAGES] == [1, 0, 0, 0, 1, 1]  # checks and measurements are not
    assert len(service.logged(second, f"taken over from job {first}")) == 3
    # the files of the one outlive the other
    with unit_of_work(service.sessions) as session:
        jobs.delete(session, first)
    make_janitor(service, store).sweep()
    service.check(service.job(second))
    assert len(list(store.attempts())) == len(STAGES)
    with unit_of_work(service.sessions) as session:
        jobs.delete(session, second)
    make_janitor(service, store).sweep()
    assert list(store.attempts()) == []


@pytest.mark.thorough
def test_jobs_that_differ_in_how_much_goes_share_one_scoring(service: Service, sharing: Supervisor) -> None:
    ratios = (0.1, 0.2, 0.25, 0.3, 0.4, 0.5)
    job_ids = [service.submit(send=False, pruning={"kind": "depth", "ratio": ratio}) for ratio in ratios]
    for job_id in job_ids:
        drive(service, sharing, job_id)
        assert service.job(job_id).state is State.SUCCEEDED
    assert [service.started(job_id, "score") for job_id in job_ids] == [1, 0, 0, 0, 0, 0]
    assert [service.started(job_id, "prune") for job_id in job_ids] == [1] * 6


@pytest.mark.thorough
def test_a_sweep_scores_once(service: Service, sharing: Supervisor) -> None:
    """Twelve points, which differ in how much goes and in how quality is recovered; each prunes once."""
    grid = {"pruning.blocks": [1, 2, 3, 4, 5, 6], "recovery.kind": ["none", "lora"]}
    spec = {"model": {"source": "local", "path": "m"}, "pruning": {"kind": "depth"}}
    settings = sharing.settings.model_copy(update={"check_local": False})

    def computed() -> dict[str, int]:
        """Submits the sweep; how often each stage is computed."""
        with Work(settings, service.sessions, lambda _: None) as work:
            made = sweeps.submit(work, SweepSpec.model_validate({"spec": spec, "grid": grid}), caller="me")
            points = sweeps.shown(work.session, made.id).points
        for point in points:
            drive(service, sharing, point.job_id)
            assert service.job(point.job_id).state is State.SUCCEEDED
        assert len(points) == 12
        return {name: sum(service.started(point.job_id, name) for point in points) for name in STAGES}

    # these stages prune to the same files whatever goes, so there are two models to measure, one of them recovered
    assert computed() == {"check": 12, "score": 1, "prune": 6, "recover": 6, "benchmark": 2, "report": 12}
    assert computed() == {"check": 12, "score": 0, "prune": 0, "recover": 0, "benchmark": 0, "report": 12}


def test_equal_jobs_at_once_compute_each_stage_once(service: Service, sharing: Supervisor) -> None:
    """On as many slots as jobs: whoever comes while a stage runs waits for it, and its slot is free meanwhile."""
    job_ids = [service.submit(send=False, score="sleep:2", recover="train:4:0.1") for _ in range(3)]

    def work() -> None:
        while not all(service.job(job_id).state.terminal for job_id in job_ids):
            sharing.run_next()
            time.sleep(0.01)

    threads = [threading.Thread(target=work) for _ in job_ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job_id in job_ids:
        service.settled(job_id)
    started = {name: sum(service.started(job_id, name) for job_id in job_ids) for name in STAGES}
    assert started == {"check": 3, "score": 1, "prune": 1, "recover": 1, "benchmark": 3, "report": 3}
    assert [line for job_id in job_ids for line in service.logged(job_id, "its result is waited for")]


def test_a_changed_model_shares_nothing(service: Service, sharing: Supervisor, tmp_path: Path) -> None:
    first, second = service.submit(send=False), service.submit(send=False)
    drive(service, sharing, first)
    (tmp_path / "models" / "m" / "config.json").write_text('{"changed": true}')
    drive(service, sharing, second)
    assert service.started(second, "score") == 1
    # but what the first stages made is alike, to the bit, and so is what the later ones make of it
    assert service.logged(second, "taken over") == []


def test_sharing_can_be_turned_off(service: Service, sharing: Supervisor) -> None:
    settings = sharing.settings.model_copy(update={"reuse_results": False})
    sessions, store, forkserver = sharing.sessions, sharing.store, sharing.forkserver
    alone = Supervisor(settings, sessions, store, forkserver, SoundDevice(), send=lambda _: None)
    for _ in range(2):
        job_id = service.submit(send=False)
        drive(service, alone, job_id)
        assert [service.started(job_id, name) for name in STAGES] == [1] * len(STAGES)
