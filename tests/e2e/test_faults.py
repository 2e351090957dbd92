"""Faults, done to real processes, a real database and a real broker.

Whatever happens, `service.settled` holds the job against what must always be true: one end, each stage committed once,
every artifact with the bytes that it must have, a history without gaps.
"""

from __future__ import annotations

import random
import signal
import threading
import time

import pytest
import redis

from app.broker.queue import make_celery
from app.broker.sender import send_stage
from app.db.session import unit_of_work
from app.services import sweeps
from app.services.work import Work
from secateur.contract.jobs import State
from secateur.contract.sweep import SweepSpec
from tests.fixtures.service import PATIENCE, STAGES, Service, Worker, gone, pid_of

# 1 -- SIGKILL of the worker in each stage


@pytest.mark.thorough
def test_a_killed_worker_in_each_stage(service: Service) -> None:
    """Completed stages are not run again, a training goes on from its checkpoint, and no process is left."""
    worker = service.worker()
    job_id = service.submit(
        check="sleep:0.8",
        score="sleep:0.8",
        prune="sleep:0.8",
        recover="train:8:0.15",
        benchmark="sleep:0.8",
        report="sleep:0.8",
    )
    for stage in STAGES:
        service.until_started(job_id, stage)
        if stage == "recover":
            service.until(lambda: any(e.type == "metrics" for e in service.events(job_id)))
        tree = [process.pid for process in worker.tree()]
        worker.kill()
        service.until(lambda pids=tree: gone(pids))  # type: ignore[misc]
        worker = service.worker()
    job = service.settled(job_id)
    assert [stage.crashes for stage in job.stages] == [1] * len(STAGES)
    assert [service.started(job_id, stage) for stage in STAGES] == [2] * len(STAGES)
    assert service.logged(job_id, "^resumed from step")


# 4 -- a worker that is stopped past its lease


@pytest.mark.thorough
def test_a_stopped_worker_is_fenced_out(service: Service) -> None:
    """Its stage process ends with the lease, before another worker has the stage; what it wrote is refused."""
    stopped = service.worker()
    job_id = service.submit(score="sleep:3")
    service.until_started(job_id, "score")
    first = pid_of(service, job_id, "score")
    stopped.signal(signal.SIGSTOP)
    service.worker()
    service.until_started(job_id, "score", times=2)
    assert gone([first])
    stopped.signal(signal.SIGCONT)
    job = service.settled(job_id)
    assert job.stages[1].token == 3  # claimed, rescued, claimed
    service.until(lambda: "no longer this worker's" in stopped.log.read_text())


# 5 -- messages that come more than once


def test_the_same_message_many_times_and_to_two_workers(service: Service) -> None:
    celery = make_celery(service.settings)
    job_id = service.submit(send=False, score="sleep:0.5")
    stage_id = service.job(job_id).stages[0].id
    for _ in range(10):
        assert send_stage(stage_id, celery=celery)
    service.worker(wait=False, concurrency="4", lease_seconds="20")
    service.worker(wait=False, concurrency="4", lease_seconds="20")
    job = service.settled(job_id)
    assert [stage.attempt for stage in job.stages] == [1] * len(STAGES)
    assert [service.started(job_id, stage) for stage in STAGES] == [1] * len(STAGES)


@pytest.mark.thorough
def test_a_killed_worker_whose_stage_others_wait_for(service: Service) -> None:
    """One of the two goes on, in the other's place or its own, and both jobs come to their end."""
    (service.folder / "models" / "m").mkdir(parents=True)
    (service.folder / "models" / "m" / "config.json").write_text("{}")
    roots = str(service.folder / "models")
    first = service.worker(model_roots=roots)
    one = service.submit(score="hang:1")
    service.until_started(one, "score")
    service.worker(model_roots=roots)
    two = service.submit()
    service.until(lambda: service.job(two).stages[1].waits_for == one)
    first.kill()
    for job_id in (one, two):
        service.settled(job_id)
    assert service.started(one, "score") + service.started(two, "score") == 2  # the killed one, and one more
    assert [service.started(one, name) + service.started(two, name) for name in ("prune", "recover")] == [1, 1]


@pytest.mark.thorough
def test_a_sweep_survives_the_death_of_everything(service: Service) -> None:
    """The worker is killed, the broker forgets, the database is killed: every point comes to its end, scored once."""
    (service.folder / "models" / "m").mkdir(parents=True)
    (service.folder / "models" / "m" / "config.json").write_text("{}")
    roots = str(service.folder / "models")
    settings = service.settings.model_copy(update={"check_local": False})
    asked = SweepSpec.model_validate(
        {
            "spec": {"model": {"source": "local", "path": "m"}, "pruning": {"kind": "depth"}},
            "grid": {"pruning.blocks": [1, 2, 3]},
            "labels": {"do/recover": "train:8:0.15"},
        }
    )
    with Work(settings, service.sessions, lambda _: None) as work:  # and its messages are lost as well
        sweep_id = sweeps.submit(work, asked, caller="me").id
        job_ids = [point.job_id for point in sweeps.shown(work.session, sweep_id).points]
    worker = service.worker(model_roots=roots, concurrency="2")
    service.until(lambda: any(service.started(job_id, "recover") for job_id in job_ids))
    worker.kill()
    with redis.Redis.from_url(service.settings.redis_url or "") as client:
        client.flushall()
    service.servers.postgres.kill()
    service.servers.postgres.start()
    service.worker(model_roots=roots, concurrency="2")
    for job_id in job_ids:
        service.settled(job_id)
    assert sum(service.started(job_id, "score") for job_id in job_ids) == 1
    assert sum(bool(service.logged(job_id, "^resumed from step")) for job_id in job_ids) >= 1
    with unit_of_work(service.sessions) as session:
        assert sweeps.shown(session, sweep_id).state is State.SUCCEEDED


# 16 -- shutdown


@pytest.mark.thorough
def test_a_shutdown_puts_stages_back(service: Service) -> None:
    """SIGTERM, then SIGQUIT, in the middle of a training: the worker ends soon, and the next one goes on."""
    worker = service.worker(lease_seconds="20")
    job_id = service.submit(recover="train:30:0.1")
    for start, number in enumerate((signal.SIGTERM, signal.SIGQUIT), start=1):
        service.until_started(job_id, "recover", times=start)
        service.until(lambda: [e for e in service.events(job_id) if e.type == "metrics"][-1:])
        tree = [process.pid for process in worker.tree()]
        worker.signal(number)
        worker.process.wait(PATIENCE)
        service.until(lambda tree=tree: gone(tree))  # type: ignore[misc]
        job = service.job(job_id)
        assert (job.state, job.stages[3].state) == (State.QUEUED, State.QUEUED)
        worker = service.worker(lease_seconds="20")
    job = service.settled(job_id)
    assert [stage.crashes for stage in job.stages] == [0] * len(STAGES)
    assert service.started(job_id, "recover") == 3
    assert service.logged(job_id, "^resumed from step")


# 11, 20 -- two of everything, and chance


@pytest.mark.thorough
def test_a_soak_of_random_kills(service: Service) -> None:
    """Two workers, some jobs, and kills at random for a while: every job ends as it must."""
    chance = random.Random(7)
    workers: list[Worker] = [service.worker(max_attempts="20"), service.worker(wait=False, max_attempts="20")]
    job_ids = [service.submit(seed=seed, score="sleep:0.3", recover="train:8:0.1") for seed in range(4)]
    for _ in range(3):
        time.sleep(chance.uniform(0.5, 1.5))
        victim = chance.randrange(2)
        workers[victim].kill()
        workers[victim] = service.worker(wait=False, max_attempts="20")
    threads = [threading.Thread(target=service.send, args=(service.job(job_id),)) for job_id in job_ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job_id in job_ids:
        service.settled(job_id)
