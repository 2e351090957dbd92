"""A second round in the job's rows: workers that die between the rounds, a retry, and which round is handed out."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, update
from sqlalchemy.orm import Session

from app.db import claims, jobs
from app.db.claims import Claim
from app.db.rounds import of_what_is_handed_out
from app.db.tables.jobs import Job, Stage
from secateur.contract.errors import StageFailed
from secateur.contract.jobs import State
from secateur.contract.rounds import second_round
from secateur.contract.spec import CompressionSpec

PROBLEM = StageFailed("it broke.").to_problem()
SPEC = CompressionSpec.model_validate(
    {"model": {"source": "hub", "id": "org/model"}, "pruning": {"kind": "depth", "target": {"speedup": 1.3}}}
)
FIRST = ["check", "plan", "score", "prune", "recover", "benchmark", "correct"]
AGAIN = ["prune-2", "recover-2", "benchmark-2"]


@pytest.fixture
def job(session: Session) -> Job:
    """A job whose first round has been measured."""
    made = jobs.insert(session, spec=SPEC, caller="me")
    assert made is not None
    for key in FIRST[:-1]:
        finish(session, take(session, made.id, key))
    return jobs.get(session, made.id)


def take(session: Session, job_id: UUID, key: str, worker: str = "a worker") -> Claim:
    stage = stage_of(jobs.get(session, job_id), key)
    claim = claims.claim(session, stage.id, worker=f"{worker} of {key}", lease_seconds=30)
    assert claim is not None, f"{key} is {stage.state} and waits for {stage.needs}"
    return claim


def stage_of(job: Job, key: str) -> Stage:
    return next(stage for stage in job.stages if stage.key == key)


def finish(session: Session, claim: Claim, **result: Any) -> State | None:
    adds = second_round(SPEC) if claim.key == "correct" else ()
    output = f"o/{claim.key}"
    return claims.succeed(
        session, claim, result={"verdict": "none", **result}, output=output, files=[], adds=adds
    ).state


def killed(session: Session, claim: Claim) -> None:
    """Its worker is gone, and the lease has run out."""
    session.execute(update(Stage).where(Stage.id == claim.stage_id).values(lease_expires_at=func.now()))
    claims.rescue(session, claim.stage_id, problem=PROBLEM, max_attempts=3)


def states(session: Session, job: Job) -> dict[str, str]:
    return {stage.key: stage.state.value for stage in jobs.get(session, job.id).stages}


def test_a_worker_that_dies_before_or_after_the_correction_costs_its_stage_and_no_more(
    session: Session, job: Job
) -> None:
    first = take(session, job.id, "correct")
    killed(session, first)
    assert list(states(session, job)) == [*FIRST, "report"], "what it added was not committed"
    finish(session, take(session, job.id, "correct", "another"))
    assert finish(session, first) is None, "the dead one comes back too late, and adds nothing"
    assert list(states(session, job)) == [*FIRST, *AGAIN, "report"]
    assert states(session, job)["report"] == "queued"
    for key in AGAIN:
        killed(session, take(session, job.id, key))
        assert finish(session, take(session, job.id, key, "another")) is State.SUCCEEDED
    finish(session, take(session, job.id, "report"), round=2)
    done = jobs.get(session, job.id)
    assert done.state is State.SUCCEEDED
    assert [stage.attempt for stage in done.stages] == [1] * 6 + [2] * 4 + [1]


def test_a_retry_goes_on_within_the_second_round(session: Session, job: Job) -> None:
    for key in ("correct", "prune-2"):
        finish(session, take(session, job.id, key))
    claims.fail(session, take(session, job.id, "recover-2"), problem=PROBLEM)
    failed = jobs.get(session, job.id)
    assert failed.state is State.FAILED
    assert failed.problem is not None
    assert failed.problem["stage"] == "recover-2"
    jobs.retry(session, job.id)
    left = [key for key, state in states(session, job).items() if state != "succeeded"]
    assert left == ["recover-2", "benchmark-2", "report"]
    for key in left:
        finish(session, take(session, job.id, key))
    assert jobs.get(session, job.id).state is State.SUCCEEDED
    assert list(states(session, job)) == [*FIRST, *AGAIN, "report"], "there is no third round"


@pytest.mark.parametrize(("handed_out", "folder"), [(1, "recover"), (2, "recover-2")])
def test_what_the_report_says_is_handed_out(session: Session, job: Job, handed_out: int, folder: str) -> None:
    def of_recovery() -> str:
        _, stages = of_what_is_handed_out(jobs.get(session, job.id))
        (key,) = (stage.key for stage in stages if stage.kind == "recover")
        return key

    assert of_recovery() == "recover"
    finish(session, take(session, job.id, "correct"))
    assert of_recovery() == "recover-2", "what is under way"
    for key in AGAIN:
        finish(session, take(session, job.id, key))
    finish(session, take(session, job.id, "report"), round=handed_out)
    assert of_recovery() == folder
    assert of_what_is_handed_out(jobs.get(session, job.id))[0] == handed_out
