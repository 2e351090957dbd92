"""A worker with a broken device leaves the queue to others, whether it was broken from the start or broke meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from app.broker.messages import QUEUE
from app.broker.queue import idle_workers, make_celery
from secateur.contract.jobs import State
from tests.fixtures.service import Service

SECOND = 1.0


@pytest.fixture
def fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that says what is wrong with the device of the workers that are started with it."""
    monkeypatch.setenv("FAKE_DEVICE", str(tmp_path / "fault"))
    return tmp_path / "fault"


@pytest.mark.thorough
def test_a_worker_whose_device_is_broken_takes_no_messages(
    service: Service, fault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault.write_text("the driver is too old (found version 12080)")
    broken = service.worker(lease_seconds="20")
    submitted = [service.submit(seed=seed) for seed in range(3)]
    service.until(lambda: "takes no stages, since its device does not work: the driver" in broken.log.read_text())
    celery = make_celery(service.settings)
    service.until(lambda: idle_workers(celery=celery) == ["the driver is too old (found version 12080)"])
    time.sleep(SECOND)  # three jobs used to fail within it
    with redis.Redis.from_url(service.settings.redis_url or "") as client:
        assert client.llen(QUEUE) >= 3
    assert [service.job(job_id).stages[0].attempt for job_id in submitted] == [0, 0, 0]
    monkeypatch.delenv("FAKE_DEVICE")
    sound = service.worker(lease_seconds="20")
    service.until(lambda: len(idle_workers(celery=celery)) == 1)
    for job_id in submitted:
        job = service.settled(job_id)
        assert {stage.worker.partition("#")[0].partition(":")[2] for stage in job.stages if stage.worker} == {
            str(sound.pid)
        }


def test_a_stage_whose_device_fails_goes_to_another_worker_at_no_cost(
    service: Service, fault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = service.worker(concurrency="2", lease_seconds="20")
    job_id = service.submit(prune="device:1")
    service.until(lambda: service.logged(job_id, "The GPU has fallen off.*waits for a worker whose device works"))
    told = "takes no stages, since its device does not work: it has fallen off the bus"
    service.until(lambda: told in failing.log.read_text())
    assert failing.process.running
    monkeypatch.delenv("FAKE_DEVICE")
    service.worker(lease_seconds="20")
    job = service.settled(job_id)
    assert {stage.key: stage.attempt for stage in job.stages if stage.attempt != 1} == {"prune": 2}
    assert not any(stage.crashes for stage in job.stages)


def test_a_device_that_a_stage_blames_and_that_works_costs_an_attempt(service: Service) -> None:
    service.worker(lease_seconds="20")
    job = service.settled(service.submit(score="device"), State.FAILED)
    assert job.problem is not None
    assert job.problem["type"].endswith("/device-failed")
    assert "tried 3 times" in job.problem["detail"]
