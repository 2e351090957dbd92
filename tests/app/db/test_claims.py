"""Claims at their edges: who may write, how long a lease runs, which attempt is the last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.db import claims, events, jobs, stages
from app.db.claims import Claim, Standing
from app.db.stage_ends import LOST, Ended
from app.db.tables.jobs import Job, Stage
from secateur.contract.errors import StageFailed
from secateur.contract.jobs import State
from secateur.contract.spec import CompressionSpec
from secateur.contract.use import StageUse

PROBLEM = StageFailed("it broke.").to_problem()
USE = StageUse(memory_bytes=7, peak_memory_bytes=8, cores=0.5)
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
    "relay": lambda session, claim: claims.add_events(session, claim, [events.log("late")], before=0),
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
    claims.add_events(session, first, [events.log("a")], before=0, progress={"done": 1, "total": 2, "unit": "steps"})
    claims.renew(session, first, lease_seconds=30, use=USE)
    claims.release(session, first, reason="stopping")
    second = claims.claim(session, first.stage_id, worker="v", lease_seconds=30)
    assert second is not None
    assert (second.attempt, second.token) == (2, 2)
    stage = row(session, second)
    assert (stage.progress, stage.relayed, stage.worker, stage.crashes) == (None, 0, "v", 0)
    assert stage.use is None


def test_what_a_stage_uses_is_written_with_its_events_and_with_its_renewals(session: Session) -> None:
    claim = taken(session)
    claims.add_events(session, claim, [events.log("a")], before=0, use=USE)
    assert row(session, claim).use == USE.model_dump()
    claims.add_events(session, claim, [events.log("b")], before=1)  # nothing was measured
    claims.renew(session, claim, lease_seconds=30)
    assert row(session, claim).use == USE.model_dump()
    more = USE.model_copy(update={"memory_bytes": 9})
    claims.renew(session, claim, lease_seconds=30, use=more)
    assert row(session, claim).use == more.model_dump()


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
        for passed in (0, 1):
            deadline = func.now() - timedelta(seconds=passed)
            session.execute(update(Job).where(Job.id == stage.job_id).values(deadline_at=deadline))
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
    assert claims.add_events(session, claim, [events.log("a"), events.log("b")], before=0) is Standing.HELD
    assert claims.add_events(session, claim, [events.log(line) for line in batch], before=before) is Standing.HELD
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


def in_line(session: Session) -> tuple[Claim, list[UUID]]:
    """A claim of the second stage of a job between two others, whose second stages are claimed too; and these."""
    claimed = []
    for worker in "abc":
        first = taken(session)
        (ready,) = claims.succeed(session, first, result={}, output="o", files=[]).send
        claim = claims.claim(session, ready, worker=worker, lease_seconds=30)
        assert claim is not None
        claimed.append(claim)
    before, claim, behind = claimed
    return claim, [before.job_id, behind.job_id]


def kept(session: Session, job_ids: list[UUID]) -> list[tuple[Any, ...]]:
    """All that stands in the rows of these jobs and of their stages."""
    session.flush()
    rows = [
        *session.execute(select(*Stage.__table__.columns).where(Stage.job_id.in_(job_ids)).order_by(Stage.id)),
        *session.execute(select(*Job.__table__.columns).where(Job.id.in_(job_ids)).order_by(Job.id)),
    ]
    return [tuple(row) for row in rows]


EXPIRED = timedelta(seconds=-1)


def rescued(session: Session, claim: Claim) -> Ended:
    put(session, claim, lease_expires_at=func.now() + EXPIRED)
    return claims.rescue(session, claim.stage_id, problem=PROBLEM, max_attempts=3)


def claimed_again(session: Session, claim: Claim) -> Claim | None:
    claims.release(session, claim, reason="stopping")
    return claims.claim(session, claim.stage_id, worker="d", lease_seconds=60)


WRITES_OF_ONE: dict[str, Callable[[Session, Claim], object]] = {
    **{name: write for name, write in WRITES.items() if name != "cancelled"},
    "progress": lambda session, claim: claims.add_events(
        session, claim, [events.log("a")], before=0, progress={"done": 1}
    ),
    "rescue": rescued,
    "claim": claimed_again,
}


@pytest.mark.parametrize("write", WRITES_OF_ONE.values(), ids=WRITES_OF_ONE)
def test_a_claim_writes_to_its_own_row_and_no_other(
    session: Session, write: Callable[[Session, Claim], object]
) -> None:
    claim, others = in_line(session)
    first = next(stage.id for stage in jobs.get(session, claim.job_id).stages)
    before, untouched = kept(session, others), session.get_one(Stage, first, populate_existing=True).state
    assert write(session, claim) not in (LOST, Standing.LOST, None)
    assert kept(session, others) == before
    assert session.get_one(Stage, first, populate_existing=True).state is untouched


def test_a_worker_that_asks_again_finds_its_own_claim_and_nobody_elses(session: Session) -> None:
    claim, _ = in_line(session)
    assert claims.claim_next(session, worker="b", lease_seconds=30) == claim
    for worker in ("B", "aa", "bb", "d"):
        assert claims.claim_next(session, worker=worker, lease_seconds=30) is None
    assert claims.claim(session, claim.stage_id, worker="a", lease_seconds=30) is None
    assert claims.claim(session, claim.stage_id, worker="c", lease_seconds=30) is None


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
def test_what_is_over_is_not_claimed(session: Session, state: State) -> None:
    stage = waiting(session)
    over = {"state": state, "problem": PROBLEM, "result": {}, "output": "o", "finished_at": func.now()}
    session.execute(update(Stage).where(Stage.id == stage.id).values(over))
    assert claims.claim(session, stage.id, worker="w", lease_seconds=30) is None
    assert session.get_one(Stage, stage.id, populate_existing=True).token == 0


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
def test_no_stage_of_a_job_that_is_over_is_claimed(session: Session, state: State) -> None:
    _before, stage, _behind = waiting(session), waiting(session), waiting(session)  # of jobs that are not over
    over = {"state": state, "problem": PROBLEM, "finished_at": func.now()}
    session.execute(update(Job).where(Job.id == stage.job_id).values(over))
    assert claims.claim(session, stage.id, worker="w", lease_seconds=30) is None


def test_a_claim_says_whose_it_is(session: Session) -> None:
    claim, _ = in_line(session)
    stage, job = row(session, claim), jobs.get(session, claim.job_id)
    assert (claim.stage_id, claim.job_id, claim.key, claim.kind) == (stage.id, job.id, "score", "score")
    assert stage.heartbeat_at is not None
    assert stage.started_at is not None
    assert job.state is State.RUNNING
    again = claims.claim(session, claim.stage_id, worker="b", lease_seconds=30)
    assert again == claim


def test_a_job_is_told_to_run_once(session: Session) -> None:
    claim, _ = in_line(session)
    told = [event for event in events.after(session, claim.job_id, types=["state"]) if event.stage is None]
    assert [event.data["state"] for event in told] == ["queued", "running"]


def test_progress_is_told_only_with_what_is_new(session: Session) -> None:
    claim = taken(session)
    half, whole = {"done": 1, "total": 2, "unit": "steps"}, {"done": 2, "total": 2, "unit": "steps"}
    assert claims.add_events(session, claim, [events.log("a")], before=0, progress=half) is Standing.HELD
    claims.add_events(session, claim, [events.log("b")], before=1)
    assert row(session, claim).progress == half
    claims.add_events(session, claim, [events.log("b")], before=1, progress=whole)  # asked again: it is written
    assert row(session, claim).progress == half
    jobs.request_cancel(session, claim.job_id)
    assert claims.add_events(session, claim, [], before=2) is Standing.CANCELLING


def test_what_is_not_there_is_not_taken(session: Session) -> None:
    taken(session, lease_seconds=-1)
    for number in (1, 2**128 - 1):
        assert claims.claim(session, UUID(int=number), worker="w", lease_seconds=30) is None
        assert claims.rescue(session, UUID(int=number), problem=PROBLEM, max_attempts=3) == LOST
    ended = taken(session)
    claims.fail(session, ended, problem=PROBLEM)
    assert claims.rescue(session, ended.stage_id, problem=PROBLEM, max_attempts=3) == LOST
    assert row(session, ended).token == ended.token


def test_a_stage_that_is_rescued_while_a_cancel_waits_is_cancelled(session: Session) -> None:
    claim = taken(session)
    jobs.request_cancel(session, claim.job_id)
    put(session, claim, lease_expires_at=func.now() + EXPIRED)
    ended = claims.rescue(session, claim.stage_id, problem=PROBLEM, max_attempts=3)
    assert ended.state is State.CANCELLED
    assert row(session, claim).token == claim.token + 1
