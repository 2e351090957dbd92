"""What becomes of a stage whose worker was given up: its old worker is refused, its attempts are counted."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.db import artifacts, claims, events, jobs, stages
from app.db.claims import Claim, Standing
from app.db.stage_ends import LOST
from secateur.contract.jobs import State
from tests.fixtures.job_rows import PROBLEM, finish, insert, take, told


def expire(session: Session, claim: Claim) -> None:
    claims.renew(session, claim, lease_seconds=-1)


def test_a_rescued_stage_refuses_its_old_worker(session: Session) -> None:
    job = insert(session)
    old = take(session, job)
    assert claims.rescue(session, old.stage_id, problem=PROBLEM, max_attempts=3) == LOST  # the lease holds
    expire(session, old)
    assert stages.expired(session) == [old.stage_id]
    assert claims.rescue(session, old.stage_id, problem=PROBLEM, max_attempts=3).state is State.QUEUED
    for _ in range(2):  # before and after another worker has it
        assert claims.renew(session, old, lease_seconds=30) is Standing.LOST
        assert claims.look(session, old) == (Standing.LOST, False)
        assert claims.add_events(session, old, [events.log("too late")], before=0) is Standing.LOST
        assert finish(session, old) == LOST
        assert claims.fail(session, old, problem=PROBLEM) == LOST
        assert claims.crash(session, old, problem=PROBLEM, max_attempts=3) == LOST
        assert claims.release(session, old, reason="shutdown") == LOST
        if stages.waiting_ids(jobs.get(session, job.id)):
            claims.claim(session, old.stage_id, worker="new", lease_seconds=30)
    assert "check log" in told(session, job)  # why it was taken from the worker
    assert all(event.data.get("message") != "too late" for event in events.after(session, job.id))


def test_a_worker_whose_job_was_deleted_is_lost(session: Session) -> None:
    job = insert(session)
    claim = take(session, job)
    expire(session, claim)
    jobs.request_cancel(session, job.id)
    assert claims.rescue(session, claim.stage_id, problem=PROBLEM, max_attempts=3).state is State.CANCELLED
    jobs.delete(session, job.id)
    assert claims.renew(session, claim, lease_seconds=30) is Standing.LOST
    assert claims.add_events(session, claim, [events.log("x")], before=0) is Standing.LOST
    assert finish(session, claim) == LOST
    assert claims.rescue(session, claim.stage_id, problem=PROBLEM, max_attempts=3) == LOST


def test_crashes_are_counted_and_limited(session: Session) -> None:
    job = insert(session)
    for crash in range(1, 4):
        claim = claims.claim(session, job.stages[0].id, worker=f"w{crash}", lease_seconds=30)
        assert claim is not None
        ended = claims.crash(session, claim, problem=PROBLEM, max_attempts=3)
        assert ended.state is (State.FAILED if crash == 3 else State.QUEUED)
        assert claims.crash(session, claim, problem=PROBLEM, max_attempts=3) == ended  # asked again, counted once
    problem = jobs.get(session, job.id).problem
    assert problem is not None
    assert problem["detail"] == "it broke. It was tried 3 times."


def test_ending_twice_ends_once(session: Session) -> None:
    job = insert(session)
    claim = take(session, job)
    assert finish(session, claim) == finish(session, claim)
    assert told(session, job).count("check succeeded") == 1
    assert len(artifacts.list_for(session, job.id)) == 1
