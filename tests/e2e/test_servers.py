"""The broker and the database go away and come back, under a worker that lives.

Nothing is lost and nothing is done twice: each test asserts that every stage was started once.
"""

from __future__ import annotations

import pytest
import redis

from tests.fixtures.service import STAGES, Service


@pytest.mark.thorough
@pytest.mark.parametrize("orderly", [False, True], ids=["killed", "restarted"])
def test_the_broker_goes_and_comes_back_in_the_middle(steady: Service, orderly: bool) -> None:
    job_id = steady.submit(score="sleep:1", prune="sleep:0.5")
    steady.until_started(job_id, "score")
    if orderly:
        steady.servers.valkey.stop()
        steady.servers.valkey.start()
    else:
        steady.servers.valkey.kill()
        steady.until(lambda: steady.job(job_id).stages[1].state.terminal)  # the next message cannot be sent
        steady.servers.valkey.start()
    steady.settled(job_id)
    assert [steady.started(job_id, stage) for stage in STAGES] == [1] * len(STAGES)


@pytest.mark.thorough
def test_the_broker_goes_while_idle(steady: Service) -> None:
    steady.servers.valkey.kill()
    job_id = steady.submit(send=False)
    assert not steady.send(steady.job(job_id))  # it fails soon, and loses nothing
    steady.servers.valkey.start()
    steady.settled(job_id)


def test_the_broker_forgets_everything(steady: Service) -> None:
    job_id = steady.submit(score="sleep:0.5")
    waiting = [steady.submit() for _ in range(2)]
    steady.until_started(job_id, "score")
    with redis.Redis.from_url(steady.settings.redis_url or "") as client:
        client.flushall()
    for each in (job_id, *waiting):
        steady.settled(each)
        assert [steady.started(each, stage) for stage in STAGES] == [1] * len(STAGES)


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_the_database_goes_and_comes_back_in_the_middle(steady: Service, how: str) -> None:
    """Short enough for the lease: nothing is done twice."""
    job_id = steady.submit(score="sleep:1.5", recover="train:10:0.1")
    for stage in ("score", "recover"):
        steady.until_started(job_id, stage)
        if how == "killed":
            steady.servers.postgres.kill()
            steady.servers.postgres.start()
        else:
            steady.servers.postgres.stop()
            steady.servers.postgres.start()
    job = steady.settled(job_id)
    assert [steady.started(job_id, stage) for stage in STAGES] == [1] * len(STAGES)
    assert [stage.attempt for stage in job.stages] == [1] * len(STAGES)


def test_a_stage_that_was_committed_and_never_sent(steady: Service) -> None:
    """The API was killed between the commit and the message."""
    job_id = steady.submit(send=False)
    steady.settled(job_id)
