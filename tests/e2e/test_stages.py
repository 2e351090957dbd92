"""What happens to single stages on a worker that lives: they succeed, crash, fail, and are cancelled."""

from __future__ import annotations

import itertools
import os
import signal
import time

import pytest
import redis

from app.blobs.store import OWNER
from app.broker.queue import make_celery
from app.broker.sender import send_stage
from secateur.contract.jobs import State
from tests.fixtures.service import STAGES, Service, gone, pid_of


def test_a_job_runs_through_its_stages(steady: Service) -> None:
    job_id = steady.submit(score="sleep:0.2", recover="train:3:0.05")
    job = steady.settled(job_id)
    assert [(stage.attempt, stage.crashes) for stage in job.stages] == [(1, 0)] * len(STAGES)
    assert job.stages[3].progress == {"done": 3, "total": 3, "unit": "steps"}
    progress = [event.data for event in steady.events(job_id) if event.type == "progress" and event.stage == "recover"]
    assert progress[-1]["use"]["peak_memory_bytes"] > 0
    assert {**progress[-1], "use": None} == {"done": 3, "total": 3, "unit": "steps", "use": None}
    left = {path.name for path in (steady.settings.data_dir / "work").iterdir()}
    assert left <= {OWNER}  # no scratch is left of what is committed


# 12 -- cancel


def test_a_cancel_ends_a_stage_that_is_deaf_to_it_and_leaves_no_process(steady: Service) -> None:
    """It ignores SIGTERM, has started a process in a session of its own, and would sleep for an hour."""
    job_id = steady.submit(score="deaf;spawn;sleep:3600")
    steady.until(lambda: steady.logged(job_id, "^spawned"))
    pids = [pid_of(steady, job_id, "score"), int(steady.logged(job_id, r"^spawned (\d+)")[0])]
    steady.cancel(job_id)
    steady.settled(job_id, State.CANCELLED)
    assert gone(pids)


@pytest.mark.thorough
def test_a_cancelled_job_can_be_retried_and_goes_on(steady: Service) -> None:
    job_id = steady.submit(recover="train:60:0.1")
    steady.until(lambda: any(e.data.get("step") == 3 for e in steady.events(job_id)))
    steady.cancel(job_id)
    steady.cancel(job_id)  # asking twice is asking once
    steady.settled(job_id, State.CANCELLED)
    steady.retry(job_id)
    steady.settled(job_id)
    assert [steady.started(job_id, stage) for stage in STAGES] == [1, 1, 1, 2, 1, 1]
    assert steady.logged(job_id, "^resumed from step")


@pytest.mark.thorough
def test_a_cancel_at_every_boundary(steady: Service) -> None:
    """Jobs are cancelled at moments spread over their whole run; each ends once, cancelled or succeeded."""
    ends = []
    for moment in range(8):
        job_id = steady.submit(seed=moment)
        time.sleep(0.15 * moment)
        steady.cancel(job_id)
        steady.until(lambda job_id=job_id: steady.job(job_id).state.terminal)  # type: ignore[misc]
        job = steady.job(job_id)
        steady.check(job)
        ends.append(job.state)
    assert ends[0] is State.CANCELLED
    assert set(ends) <= {State.CANCELLED, State.SUCCEEDED}


def test_a_deadline_cancels(steady: Service) -> None:
    job_id = steady.submit(score="sleep:60", deadline=1.0)
    steady.settled(job_id, State.CANCELLED)
    assert steady.logged(job_id, "deadline has passed")


# 13, 14 -- limits, and stages that always break


def test_a_stage_that_always_crashes_fails_after_three_attempts(steady: Service) -> None:
    job_id = steady.submit(prune="crash")
    job = steady.settled(job_id, State.FAILED)
    assert job.problem is not None
    assert job.problem["type"].endswith("/stage-failed")
    assert "SIGKILL" in job.problem["detail"]
    assert "memory" in job.problem["detail"]
    assert "tried 3 times" in job.problem["detail"]
    assert [steady.started(job_id, stage) for stage in STAGES] == [1, 1, 3, 0, 0, 0]
    assert len(steady.logged(job_id, "about to crash")) == 3  # what the process printed is shown


@pytest.mark.thorough
def test_a_stage_that_uses_too_much_memory_is_told_so_and_not_tried_again(service: Service) -> None:
    service.worker(stage_memory_bytes=str(128 << 20), lease_seconds="20")
    job_id = service.submit(score="eat:256")
    job = service.settled(job_id, State.FAILED)
    assert job.problem is not None
    assert "the limit of a stage is 134 MB" in job.problem["detail"]
    assert job.stages[1].attempt == 1
    assert service.started(job_id, "score") == 1


def test_a_stage_that_crashes_twice_succeeds(steady: Service) -> None:
    job = steady.settled(steady.submit(prune="crash:2"))
    assert job.stages[2].crashes == 2


def test_a_user_error_in_a_stage_fails_the_job_at_once(steady: Service) -> None:
    job_id = steady.submit(score="error")
    job = steady.settled(job_id, State.FAILED)
    assert job.problem is not None
    assert job.problem["type"].endswith("/bad-checkpoint")
    assert job.problem["errors"][0]["pointer"] == "/model/path"
    assert steady.started(job_id, "score") == 1


def test_what_a_database_cannot_hold_is_replaced_and_secrets_are_hidden(steady: Service) -> None:
    job_id = steady.submit(score="noise")
    steady.settled(job_id)
    figures = next(event.data for event in steady.events(job_id) if event.type == "metrics")
    assert figures == {"loss": None, "text": "nul \ufffd"}
    assert steady.logged(job_id, r"^postgresql://user:\*\*\*@host/name$")
    assert len(steady.logged(job_id, "no event")) == 2


@pytest.mark.thorough
def test_jobs_at_once_end_one_after_the_other(service: Service) -> None:
    """On one slot: a job's next stage goes before another job's first, though its message came last."""
    submitted = [service.submit(seed=seed) for seed in range(3)]
    service.worker(lease_seconds="20")
    ended = [service.settled(job_id) for job_id in submitted]
    for one, next_one in itertools.pairwise(ended):
        assert one.finished_at is not None
        assert next_one.started_at is not None
        assert one.finished_at <= next_one.started_at


# 2 -- SIGKILL of the stage process; 6 -- a message that comes while the stage runs


def test_a_killed_stage_process(steady: Service) -> None:
    job_id = steady.submit(score="sleep:1", recover="train:6:0.15")
    for stage in ("score", "recover"):
        steady.until_started(job_id, stage)
        os.kill(pid_of(steady, job_id, stage), signal.SIGKILL)
    job = steady.settled(job_id)
    assert [stage.crashes for stage in job.stages] == [0, 1, 0, 1, 0, 0]
    assert steady.logged(job_id, r"killed \(SIGKILL\).*Trying again \(2 of 3\)")


def test_a_message_that_comes_again_while_the_stage_runs(steady: Service) -> None:
    """As after a visibility timeout shorter than the stage, which the service's broker has not got."""
    job_id = steady.submit(score="sleep:1")
    stage_id = steady.job(job_id).stages[0].id
    steady.until_started(job_id, "score")
    with redis.Redis.from_url(steady.settings.redis_url or "") as client:
        assert [key for key in client.scan_iter() if b"unacked" in key] == []
    for _ in range(3):
        send_stage(stage_id, celery=make_celery(steady.settings))
    steady.settled(job_id)
    assert steady.started(job_id, "score") == 1
