"""Faults, done to real processes, a real database and a real broker.

Whatever happens, `service.settled` holds the job against what must always be true: one end, each stage committed once,
every artifact with the bytes that it must have, a history without gaps.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest
import redis

from app.domain.jobs import StageName, State
from app.queue import make_celery, send_stage
from tests.fixtures.service import Service, Worker, gone, pid_of

STAGES = [stage.value for stage in StageName]


# 1 -- SIGKILL of the worker in each stage; 2 -- of the stage process


def test_a_killed_worker_in_each_stage(service: Service) -> None:
    """Completed stages are not run again, a training goes on from its checkpoint, and no process is left."""
    worker = service.worker()
    job_id = service.submit(
        score="sleep:0.8", prune="sleep:0.8", recover="train:8:0.15", benchmark="sleep:0.8", report="sleep:0.8"
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
    assert [stage.crashes for stage in job.stages] == [1] * 5
    assert [service.started(job_id, stage) for stage in STAGES] == [2] * 5
    assert service.logged(job_id, "^resumed from step")


def test_a_killed_stage_process(service: Service) -> None:
    service.worker()
    job_id = service.submit(score="sleep:1", recover="train:6:0.15")
    for stage in ("score", "recover"):
        service.until_started(job_id, stage)
        os.kill(pid_of(service, job_id, stage), signal.SIGKILL)
    job = service.settled(job_id)
    assert [stage.crashes for stage in job.stages] == [1, 0, 1, 0, 0]
    assert service.logged(job_id, r"killed \(SIGKILL\).*Trying again \(2 of 3\)")


# 4 -- a worker that is stopped past its lease


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
    assert job.stages[0].token == 3  # claimed, rescued, claimed
    service.until(lambda: "no longer this worker's" in stopped.log.read_text())


# 5 -- messages that come more than once; 6 -- a visibility timeout shorter than the stage


def test_the_same_message_many_times_and_to_two_workers(service: Service) -> None:
    celery = make_celery(service.settings)
    job_id = service.submit(send=False, score="sleep:0.5")
    stage_id = service.job(job_id).stages[0].id
    for _ in range(10):
        assert send_stage(stage_id, celery=celery)
    service.worker(wait=False, concurrency="4")
    service.worker(wait=False, concurrency="4")
    job = service.settled(job_id)
    assert [stage.attempt for stage in job.stages] == [1] * 5
    assert [service.started(job_id, stage) for stage in STAGES] == [1] * 5


def test_a_message_that_is_given_out_again_while_the_stage_runs(service: Service) -> None:
    """Redis gives a message out again after the visibility timeout: the stage is held, and nothing happens."""
    service.worker(concurrency="2")
    job_id = service.submit(score="sleep:2")
    service.until_started(job_id, "score")
    with redis.Redis.from_url(service.settings.redis_url or "") as client:
        service.until(lambda: client.hlen("unacked"))
        client.zadd("unacked_index", dict.fromkeys(client.hkeys("unacked"), 0))  # long overdue
    other = service.worker()  # looks for overdue messages when it begins
    service.settled(job_id)
    assert service.started(job_id, "score") == 1
    assert other.process.poll() is None


# 7 -- the broker; 8 -- and all that it knows


@pytest.mark.parametrize("orderly", [False, True], ids=["killed", "restarted"])
def test_the_broker_goes_and_comes_back_in_the_middle(service: Service, orderly: bool) -> None:
    service.worker()
    job_id = service.submit(score="sleep:1", prune="sleep:0.5")
    service.until_started(job_id, "score")
    if orderly:
        service.servers.valkey.restart()
    else:
        service.servers.valkey.kill()
        service.until(lambda: service.job(job_id).stages[0].state.terminal)  # the next message cannot be sent
        service.servers.valkey.start()
    service.settled(job_id)
    assert [service.started(job_id, stage) for stage in STAGES] == [1] * 5


def test_the_broker_goes_while_idle(service: Service) -> None:
    service.worker()
    service.servers.valkey.kill()
    job_id = service.submit(send=False)
    assert not service.send(service.job(job_id))  # it fails soon, and loses nothing
    service.servers.valkey.start()
    service.settled(job_id)


def test_the_broker_forgets_everything(service: Service) -> None:
    service.worker()
    job_id = service.submit(score="sleep:0.5")
    waiting = [service.submit() for _ in range(2)]
    service.until_started(job_id, "score")
    with redis.Redis.from_url(service.settings.redis_url or "") as client:
        client.flushall()
    for each in (job_id, *waiting):
        service.settled(each)
        assert [service.started(each, stage) for stage in STAGES] == [1] * 5


# 9 -- the database


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_the_database_goes_and_comes_back_in_the_middle(service: Service, how: str) -> None:
    """Short enough for the lease: nothing is done twice."""
    service.worker(lease_seconds="20", heartbeat_seconds="0.2")
    job_id = service.submit(score="sleep:1.5", recover="train:10:0.1")
    for stage in ("score", "recover"):
        service.until_started(job_id, stage)
        if how == "killed":
            service.servers.postgres.kill()
            service.servers.postgres.start()
        else:
            service.servers.postgres.restart()
    job = service.settled(job_id)
    assert [service.started(job_id, stage) for stage in STAGES] == [1] * 5
    assert [stage.attempt for stage in job.stages] == [1] * 5


# 10 -- a row whose message was never sent


def test_a_stage_that_was_committed_and_never_sent(service: Service) -> None:
    """The API was killed between the commit and the message."""
    job_id = service.submit(send=False)
    service.worker()
    service.settled(job_id)


# 13 -- a limit


def test_a_stage_over_its_time_limit_fails(service: Service) -> None:
    service.worker(stage_time_limit_seconds="1")
    job_id = service.submit(score="sleep:60")
    job = service.settled(job_id, State.FAILED)
    assert job.problem is not None
    assert "limit of 1 seconds" in job.problem["detail"]
    assert job.problem["stage"] == "score"
    assert job.stages[0].attempt == 1
    assert [stage.state for stage in job.stages[1:]] == [State.CANCELLED] * 4


# 16 -- shutdown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=["SIGTERM", "SIGQUIT"])
def test_a_shutdown_puts_stages_back(service: Service, number: signal.Signals) -> None:
    worker = service.worker()
    job_id = service.submit(recover="train:12:0.1")
    service.until(lambda: any(e.type == "metrics" for e in service.events(job_id)))
    tree = [process.pid for process in worker.tree()]
    worker.signal(number)
    worker.process.wait(timeout=20)
    service.until(lambda: gone(tree))
    job = service.job(job_id)
    assert (job.state, job.stages[2].state) == (State.QUEUED, State.QUEUED)
    service.worker()
    job = service.settled(job_id)
    assert [stage.crashes for stage in job.stages] == [0] * 5
    assert service.logged(job_id, "^resumed from step")


# 11, 20 -- two of everything, and chance


def test_a_soak_of_random_kills(service: Service) -> None:
    """Two workers, some jobs, and kills at random for a while: every job ends as it must."""
    chance = random.Random(7)
    workers: list[Worker] = [service.worker(max_attempts="20"), service.worker(wait=False, max_attempts="20")]
    job_ids = [service.submit(seed=seed, score="sleep:0.3", recover="train:8:0.1") for seed in range(4)]
    for _ in range(4):
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
