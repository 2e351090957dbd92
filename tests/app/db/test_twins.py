"""Identical stages: one computes, whoever comes meanwhile waits, and none waits for ever."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db import claims, events, jobs, stages, twins
from app.db.claims import Claim
from app.db.session import SessionFactory, unit_of_work
from app.db.stage_ends import LOST, Ended
from app.db.tables.jobs import Stage
from app.db.transitions import give_turns
from secateur.contract.errors import StageFailed
from secateur.contract.jobs import State
from secateur.contract.spec import CompressionSpec

PROBLEM = StageFailed("it broke.").to_problem()
SPEC = CompressionSpec.model_validate(
    {"model": {"source": "hub", "id": "org/model"}, "pruning": {"kind": "depth", "blocks": 1}}
)


def claimed(session: Session) -> Claim:
    """The first stage of a new job, in the hands of a worker of its own."""
    made = jobs.insert(session, spec=SPEC, caller="me")
    assert made is not None
    claim = claims.claim(session, made.stage_ids[0], worker=str(made.id), lease_seconds=30)
    assert claim is not None
    return claim


def meet(session: Session, claim: Claim, key: str = "k") -> Ended:
    return twins.meet(session, claim, key, note=lambda shared: f"taken over from {shared.job_id}")


def again(session: Session, claim: Claim) -> Claim:
    """The stage in another worker's hands."""
    found = claims.claim(session, claim.stage_id, worker=f"again {claim.stage_id}", lease_seconds=30)
    assert found is not None
    return found


def row(session: Session, claim: Claim) -> Stage:
    stage = stages.get(session, claim.stage_id)
    assert stage is not None
    return stage


def succeed(session: Session, claim: Claim, key: str | None = "k") -> None:
    claims.succeed(session, claim, result={"a": 1}, output=f"o/{claim.stage_id}", files=[], dedupe_key=key)


def test_the_first_computes_and_the_others_wait(session: Session) -> None:
    first, second, other = claimed(session), claimed(session), claimed(session)
    assert meet(session, first).state is State.RUNNING
    assert meet(session, first).state is State.RUNNING  # asked again, as after a commit whose answer was lost
    assert meet(session, second) == Ended(State.QUEUED)
    assert meet(session, second).state is State.QUEUED
    assert meet(session, other, "another key").state is State.RUNNING
    waiting = row(session, second)
    assert (waiting.waits_for, waiting.enqueued_at, waiting.worker is not None) == (first.job_id, None, True)
    assert waiting.lease_expires_at is None  # it holds no worker
    assert waiting.attempt == 0  # and was not tried
    assert jobs.get(session, second.job_id).state is State.QUEUED
    assert stages.waiting_ids(jobs.get(session, second.job_id)) == ()
    assert claims.claim_next(session, worker="free", lease_seconds=30) is None
    told = events.after(session, second.job_id)
    assert f"stage of job {first.job_id} computes the same" in [e.data.get("message", "") for e in told][-3]
    assert told[-2].data["waits_for"] == str(first.job_id)


def test_those_who_waited_take_the_result_over(session: Session) -> None:
    first, second, third = (claimed(session) for _ in range(3))
    for claim in (first, second, third):
        meet(session, claim)
    assert twins.wake(session) == []  # it computes still
    succeed(session, first)
    assert sorted(twins.wake(session)) == sorted([second.stage_id, third.stage_id])
    assert twins.wake(session) == []
    for claim in (second, third):
        assert meet(session, again(session, claim)).state is State.SUCCEEDED
        assert row(session, claim).output == f"o/{first.stage_id}"
        assert row(session, claim).attempt == 1
    assert meet(session, claimed(session)).state is State.SUCCEEDED  # as does who comes later


@pytest.mark.parametrize("end", ["fail", "crash", "release", "rescue", "cancel", "no key"])
def test_one_of_those_who_waited_goes_on_where_the_twin_has_no_result(session: Session, end: str) -> None:
    first, second, third = (claimed(session) for _ in range(3))
    for claim in (first, second, third):
        meet(session, claim)
    match end:
        case "fail":
            claims.fail(session, first, problem=PROBLEM)
        case "crash":
            claims.crash(session, first, problem=PROBLEM, max_attempts=3)
        case "release":
            claims.release(session, first, reason="shutdown")
        case "rescue":
            claims.renew(session, first, lease_seconds=-1)
            claims.rescue(session, first.stage_id, problem=PROBLEM, max_attempts=3)
        case "cancel":
            jobs.request_cancel(session, first.job_id)
            assert twins.wake(session) == []  # its process is there still
            claims.cancelled(session, first)
        case "no key":  # the model was changed while the stage read it
            succeed(session, first, None)
    assert twins.wake(session) == [second.stage_id]
    assert twins.wake(session) == []
    assert meet(session, again(session, second)).state is State.RUNNING
    assert twins.wake(session) == []
    assert row(session, third).waits_for is not None
    succeed(session, Claim(**{**vars(second), "token": row(session, second).token}))
    assert twins.wake(session) == [third.stage_id]


def test_one_that_was_woken_and_cancelled_leaves_its_place(session: Session) -> None:
    first, second, third = (claimed(session) for _ in range(3))
    for claim in (first, second, third):
        meet(session, claim)
    claims.fail(session, first, problem=PROBLEM)
    assert twins.wake(session) == [second.stage_id]
    jobs.request_cancel(session, second.job_id)
    assert twins.wake(session) == [third.stage_id]


def test_one_that_waits_can_be_cancelled_and_retried(session: Session) -> None:
    first, second = claimed(session), claimed(session)
    meet(session, first)
    meet(session, second)
    jobs.request_cancel(session, second.job_id)
    waiting = row(session, second)
    assert (waiting.state, waiting.waits_for, waiting.dedupe_key) == (State.CANCELLED, None, None)
    assert meet(session, second).state is State.CANCELLED
    retried = jobs.retry(session, second.job_id)
    assert stages.waiting_ids(retried) == (second.stage_id,)


def test_a_turn_of_another_stage_does_not_end_the_waiting(session: Session) -> None:
    first, second = claimed(session), claimed(session)
    succeed(session, first, None)
    succeed(session, second, None)
    scores = [claims.claim_next(session, worker=str(n), lease_seconds=30) for n in range(2)]
    for claim in scores:
        assert claim is not None
        meet(session, claim)
    waiting = next(claim for claim in scores if claim and row(session, claim).waits_for)
    give_turns(jobs.get(session, waiting.job_id))
    assert row(session, waiting).enqueued_at is None


def test_a_claim_that_was_lost_neither_waits_nor_takes_over(session: Session) -> None:
    first, second = claimed(session), claimed(session)
    meet(session, first)
    claims.release(session, second, reason="shutdown")
    newer = again(session, second)
    assert meet(session, second) == LOST
    assert meet(session, newer).state is State.QUEUED


def test_the_schema_lets_one_compute(session: Session) -> None:
    first, second = claimed(session), claimed(session)
    meet(session, first)
    row(session, second).dedupe_key = "k"
    with pytest.raises(IntegrityError, match="uq_stages_computing"):
        session.flush()
    session.rollback()


def test_many_twins_in_the_same_instant(sessions: SessionFactory) -> None:
    """Exactly one computes, whoever is first."""
    with unit_of_work(sessions) as session:
        mine = [claimed(session) for _ in range(8)]
    barrier = threading.Barrier(len(mine))
    ends: dict[UUID, Any] = {}

    def race(claim: Claim) -> None:
        barrier.wait()
        with unit_of_work(sessions) as session:
            ends[claim.stage_id] = meet(session, claim).state

    threads = [threading.Thread(target=race, args=(claim,)) for claim in mine]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends.values()) == [State.QUEUED] * 7 + [State.RUNNING]
    with unit_of_work(sessions) as session:
        waiting = [row(session, claim).waits_for for claim in mine if ends[claim.stage_id] is State.QUEUED]
        (computing,) = (claim.job_id for claim in mine if ends[claim.stage_id] is State.RUNNING)
        assert waiting == [computing] * 7
