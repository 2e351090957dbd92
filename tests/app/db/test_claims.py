"""Claims at their edges: who may write, how long a lease runs, which attempt is the last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.db import claims, events, jobs, stages
from app.db.claims import Claim, Standing
from app.db.stage_ends import LOST, Ended
from app.db.tables import Job, Stage
from secateur.contract.errors import StageFailed
from secateur.contract.jobs import State
from secateur.contract.spec import CompressionSpec

PROBLEM = StageFailed("it broke.").to_problem()
SPEC = CompressionSpec.model_validate(
    {"model": {"source": "hub", "id": "org/model"}, "pruning": {"kind": "depth", "blocks": 1}}
)


def waiting(session: Session) -> Stage:
    """The first stage of a new job."""
    made = jobs.insert(session, spec=SPEC, caller="me")
    assert made is not None
    return session.get_one(Stage, made.stage_ids[0])


def taken(session: Session, *, lease_seconds: float = 30) -> Claim:
    claim = claims.claim(session, waiting(session).id, worker="w", lease_seconds=lease_seconds)
    assert claim is not None
    return claim


def row(session: Session, claim: Claim) -> Stage:
    return session.get_one(Stage, claim.stage_id, populate_existing=True)


def put(session: Session, claim: Claim, **values: Any) -> None:
    session.execute(update(Stage).where(Stage.id == claim.stage_id).values(values))


def lines(session: Session, claim: Claim) -> list[str]:
    return [event.data["message"] for event in events.after(session, claim.job_id, types=["log"])]


WRITES: dict[str, Callable[[Session, Claim], object]] = {
    "succeed": lambda session, claim: claims.succeed(session, claim, result={}, output="o", files=[]),
    "fail": lambda session, claim: claims.fail(session, claim, problem=PROBLEM),
    "crash": lambda session, claim: claims.crash(session, claim, problem=PROBLEM, max_attempts=3),
    "release": lambda session, claim: claims.release(session, claim, reason="stopping"),
    "cancelled": claims.cancelled,
    "renew": lambda session, claim: claims.renew(session, claim, lease_seconds=60),
    "relay": lambda session, claim: claims.relay(session, claim, [events.log("late")], before=0),
    "look": lambda session, claim: claims.look(session, claim)[0],
}


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_another_token_writes_nothing(session: Session, write: Callable[[Session, Claim], object], by: int) -> None:
    claim = taken(session)
    lease, last = row(session, claim).lease_expires_at, session.get_one(Job, claim.job_id).last_event_seq
    assert write(session, replace(claim, token=claim.token + by)) in (LOST, Standing.LOST)
    stage = row(session, claim)
    assert (stage.state, stage.lease_expires_at, stage.relayed) == (State.RUNNING, lease, 0)
    assert jobs.get(session, claim.job_id).last_event_seq == last


def test_a_claim_counts_attempt_and_token_and_forgets_what_the_last_one_reached(session: Session) -> None:
    first = taken(session)
    assert (first.attempt, first.token) == (1, 1)
    claims.relay(session, first, [events.log("a")], before=0, progress={"done": 1, "total": 2, "unit": "steps"})
    claims.release(session, first, reason="stopping")
    second = claims.claim(session, first.stage_id, worker="v", lease_seconds=30)
    assert second is not None
    assert (second.attempt, second.token) == (2, 2)
    stage = row(session, second)
    assert (stage.progress, stage.relayed, stage.worker, stage.crashes) == (None, 0, "v", 0)


def test_a_lease_runs_from_now_by_the_clock_of_the_database(session: Session) -> None:
    claim, now = taken(session, lease_seconds=7), session.scalar(select(func.now()))
    assert now is not None
    assert row(session, claim).lease_expires_at == now + timedelta(seconds=7)
    assert claims.renew(session, claim, lease_seconds=90) is Standing.HELD
    assert row(session, claim).lease_expires_at == now + timedelta(seconds=90)


@pytest.mark.parametrize(("left", "rescued"), [(0.000001, False), (0, True), (-1, True)])
def test_only_a_lease_that_has_run_out_is_rescued(session: Session, left: float, rescued: bool) -> None:
    claim = taken(session)
    put(session, claim, lease_expires_at=func.now() + timedelta(seconds=left))
    ended = claims.rescue(session, claim.stage_id, problem=PROBLEM, max_attempts=3)
    assert ended == (Ended(State.QUEUED, (claim.stage_id,)) if rescued else LOST)
    assert row(session, claim).token == claim.token + rescued  # whoever held it is fenced out


@pytest.mark.parametrize(("left", "claimed"), [(0.000001, True), (0, False), (-1, False)])
def test_a_job_whose_deadline_has_passed_is_not_begun(session: Session, left: float, claimed: bool) -> None:
    stage = waiting(session)
    session.execute(update(Job).where(Job.id == stage.job_id).values(deadline_at=func.now() + timedelta(seconds=left)))
    claim = claims.claim(session, stage.id, worker="w", lease_seconds=30)
    assert (claim is not None) is claimed
    if claim is not None:
        assert claims.look(session, claim) == (Standing.HELD, False)
        session.execute(update(Job).where(Job.id == stage.job_id).values(deadline_at=func.now()))
        assert claims.look(session, claim) == (Standing.HELD, True)


def test_only_a_stage_whose_turn_has_come_is_claimed(session: Session) -> None:
    stage = waiting(session)
    put_back = update(Stage).where(Stage.id == stage.id).values(enqueued_at=None)
    session.execute(put_back)
    assert claims.claim(session, stage.id, worker="w", lease_seconds=30) is None
    session.execute(put_back.values(enqueued_at=func.now()))
    assert claims.claim(session, stage.id, worker="w", lease_seconds=30) is not None
    assert claims.claim(session, stage.id, worker="v", lease_seconds=30) is None


@pytest.mark.parametrize("most", [1, 2, 3])
def test_the_last_attempt_that_is_allowed_fails_the_job(session: Session, most: int) -> None:
    claim: Claim | None = taken(session)
    for attempt in range(1, most + 1):
        assert claim is not None
        ended = claims.crash(session, claim, problem=PROBLEM, max_attempts=most)
        assert ended.state is (State.FAILED if attempt == most else State.QUEUED)
        assert ended.send == (() if attempt == most else (claim.stage_id,))
        claim = claims.claim(session, claim.stage_id, worker=f"w{attempt}", lease_seconds=30)
    assert claim is None


@pytest.mark.parametrize(
    ("before", "batch", "written"),
    [
        (2, "c", "c"),
        (1, "bc", "c"),  # b was committed by a call whose answer was lost
        (0, "ab", ""),
        (0, "a", ""),
    ],
)
def test_no_event_is_written_twice(session: Session, before: int, batch: str, written: str) -> None:
    claim = taken(session)
    assert claims.relay(session, claim, [events.log("a"), events.log("b")], before=0) is Standing.HELD
    assert claims.relay(session, claim, [events.log(line) for line in batch], before=before) is Standing.HELD
    assert lines(session, claim) == [*"ab", *written]
    assert row(session, claim).relayed == 2 + len(written)


def test_a_cancel_that_was_asked_for_wins_over_every_end(session: Session) -> None:
    for name in ("succeed", "fail", "crash", "release", "cancelled"):
        claim = taken(session)
        jobs.request_cancel(session, claim.job_id)
        assert claims.look(session, claim)[0] is Standing.CANCELLING
        assert claims.renew(session, claim, lease_seconds=30) is Standing.CANCELLING
        assert WRITES[name](session, claim) == Ended(State.CANCELLED), name
        job = jobs.get(session, claim.job_id)
        assert {job.state, *(stage.state for stage in job.stages)} == {State.CANCELLED}
        assert stages.waiting_ids(job) == ()


def test_nobody_cancels_by_saying_that_a_process_is_gone(session: Session) -> None:
    claim = taken(session)
    assert claims.cancelled(session, claim) == LOST
    assert row(session, claim).state is State.RUNNING
