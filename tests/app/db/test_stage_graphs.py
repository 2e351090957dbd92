"""Jobs whose stages are no line: several at once, several of one kind, stages that another one has added."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from app.db import artifacts, claims, events, jobs, stages, twins
from app.db.claims import Claim
from app.db.stage_ends import Ended
from app.db.tables.jobs import Job
from secateur.contract.errors import StageFailed
from secateur.contract.jobs import State
from secateur.contract.protocol import NewStage
from secateur.contract.spec import CompressionSpec

PROBLEM = StageFailed("it broke.").to_problem()
SPEC = CompressionSpec.model_validate(
    {"model": {"source": "hub", "id": "org/model"}, "pruning": {"kind": "depth", "blocks": 1}}
)
# beside the line check, score, prune, recover, benchmark, report: two more of one kind at once, then one after both
FORK = (
    NewStage(key="prune-a", kind="prune", needs=("check",), before=("report",)),
    NewStage(key="prune-b", kind="prune", needs=("check",), before=("report",)),
    NewStage(key="measure", kind="benchmark", needs=("prune-a", "prune-b"), before=("report",)),
)


@pytest.fixture
def job(session: Session) -> Job:
    """A job whose check has succeeded, and has added the fork."""
    made = jobs.insert(session, spec=SPEC, caller="me")
    assert made is not None
    finish(session, take(session, made.id, "check"), adds=FORK, dedupe_key="check")
    return jobs.get(session, made.id)


def take(session: Session, job_id: UUID, key: str) -> Claim:
    """Take the stage, which must wait for a worker."""
    job = jobs.get(session, job_id)
    stage = next(stage for stage in job.stages if stage.key == key)
    claim = claims.claim(session, stage.id, worker=f"worker of {key}", lease_seconds=30)
    assert claim is not None, f"{key} is {stage.state} and waits for {stage.needs}"
    return claim


def finish(session: Session, claim: Claim, **more: Any) -> Ended:
    return claims.succeed(session, claim, result={"verdict": "none"}, output=f"o/{claim.key}", files=[], **more)


def states(session: Session, job: Job) -> dict[str, str]:
    fresh = jobs.get(session, job.id)
    return {"job": fresh.state.value, **{stage.key: stage.state.value for stage in fresh.stages}}


def waiting(session: Session, job: Job) -> list[str]:
    fresh = jobs.get(session, job.id)
    ids = stages.waiting_ids(fresh)
    return [stage.key for stage in fresh.stages if stage.id in ids]


def test_a_stage_adds_stages_with_its_result(session: Session, job: Job) -> None:
    shown = [(stage.key, stage.kind, stage.added_by) for stage in job.stages]
    assert shown == [
        ("check", "check", None),
        ("score", "score", None),
        ("prune", "prune", None),
        ("recover", "recover", None),
        ("benchmark", "benchmark", None),
        ("prune-a", "prune", "check"),
        ("prune-b", "prune", "check"),
        ("measure", "benchmark", "check"),
        ("report", "report", None),
    ]
    assert [stage.place for stage in job.stages] == list(range(9))
    assert set(job.stages[-1].needs) > {"prune-a", "prune-b", "measure"}
    assert waiting(session, job) == ["score", "prune-a", "prune-b"]
    told = [event for event in events.after(session, job.id) if event.data.get("added_by") == "check"]
    assert [event.stage for event in told] == ["prune-a", "prune-b", "measure"]


def test_several_stages_of_a_job_run_at_once(session: Session, job: Job) -> None:
    a, b, score = (take(session, job.id, key) for key in ("prune-a", "prune-b", "score"))
    assert finish(session, a).send == ()
    ended = finish(session, b)
    assert waiting(session, job) == ["measure"]
    assert ended.send == stages.waiting_ids(jobs.get(session, job.id))
    finish(session, score)
    for key in ("measure", "prune", "recover", "benchmark", "report"):
        finish(session, take(session, job.id, key))
    assert set(states(session, job).values()) == {"succeeded"}


def test_a_failure_stops_what_needs_it_and_the_job_fails_when_all_is_over(session: Session, job: Job) -> None:
    a, b = take(session, job.id, "prune-a"), take(session, job.id, "prune-b")
    claims.fail(session, a, problem=PROBLEM)
    found = states(session, job)
    assert (found["job"], found["prune-a"], found["measure"], found["report"]) == (
        *("running", "failed"),
        *("cancelled", "cancelled"),
    )
    assert (found["prune-b"], found["score"]) == ("running", "queued")
    finish(session, b)
    for key in ("score", "prune", "recover"):
        finish(session, take(session, job.id, key))
    claims.fail(session, take(session, job.id, "benchmark"), problem={**PROBLEM, "detail": "later"})
    over = jobs.get(session, job.id)
    assert over.state is State.FAILED
    assert over.problem in ({**PROBLEM, "stage": "prune-a"}, {**PROBLEM, "detail": "later", "stage": "benchmark"})
    last = events.after(session, job.id)[-1]
    assert (last.stage, last.data["state"]) == (None, "failed")
    retried = jobs.retry(session, job.id)
    assert waiting(session, retried) == ["benchmark", "prune-a"]


def test_a_cancel_waits_for_all_that_run(session: Session, job: Job) -> None:
    a, b = take(session, job.id, "prune-a"), take(session, job.id, "prune-b")
    jobs.request_cancel(session, job.id)
    assert claims.cancelled(session, a).state is State.CANCELLED
    assert states(session, job)["job"] == "cancelling"
    assert finish(session, b).state is State.CANCELLED
    found = states(session, job)
    assert found.pop("check") == "succeeded"
    assert set(found.values()) == {"cancelled"}


def test_a_cancel_wins_over_a_failure_before_it(session: Session, job: Job) -> None:
    a, b = take(session, job.id, "prune-a"), take(session, job.id, "prune-b")
    claims.fail(session, a, problem=PROBLEM)
    jobs.request_cancel(session, job.id)
    claims.cancelled(session, b)
    assert states(session, job)["job"] == "cancelled"
    assert jobs.get(session, job.id).problem is None


def test_a_job_is_queued_again_when_no_worker_holds_any_of_its_stages(session: Session, job: Job) -> None:
    a, b = take(session, job.id, "prune-a"), take(session, job.id, "prune-b")
    claims.release(session, a, reason="shutdown")
    assert states(session, job)["job"] == "running"
    claims.crash(session, b, problem=PROBLEM, max_attempts=3)
    assert states(session, job)["job"] == "queued"
    assert waiting(session, job) == ["score", "prune-a", "prune-b"]


def test_stages_of_a_job_that_has_begun_go_first(session: Session, job: Job) -> None:
    other = jobs.insert(session, spec=SPEC, caller="me")
    assert other is not None
    order: list[tuple[bool, str]] = []
    while (claim := claims.claim_next(session, worker=f"w{len(order)}", lease_seconds=30)) is not None:
        order.append((claim.job_id == job.id, claim.key))
    assert order == [(True, "score"), (True, "prune-a"), (True, "prune-b"), (False, "check")]


def test_what_is_added_wrongly_changes_nothing(session: Session) -> None:
    made = jobs.insert(session, spec=SPEC, caller="me")
    assert made is not None
    claim = take(session, made.id, "check")
    with pytest.raises(StageFailed, match="whose key another stage has"):
        finish(session, claim, adds=[NewStage(key="score", kind="score")])
    assert jobs.get(session, made.id).stages[0].state is State.RUNNING
    assert artifacts.list_for(session, made.id) == []


def test_what_is_needed_and_already_lost_is_cancelled_with_its_adding(session: Session, job: Job) -> None:
    score, a = take(session, job.id, "score"), take(session, job.id, "prune-a")
    claims.fail(session, a, problem=PROBLEM)
    finish(session, score, adds=[NewStage(key="late", kind="prune", needs=("prune-a", "score"))])
    assert states(session, job)["late"] == "cancelled"


def test_a_shared_result_brings_what_it_adds(session: Session, job: Job) -> None:
    shared = twins.find(session, "check")
    assert shared is not None
    assert shared.job_id == job.id
    assert tuple(shared.adds) == FORK


def test_a_submission_that_is_sent_again_gets_the_first_answer(session: Session) -> None:
    made = jobs.insert(session, spec=SPEC, caller="me", idempotency_key="k", idempotency_fingerprint="f")
    assert made is not None
    finish(session, take(session, made.id, "check"), adds=FORK)
    again = jobs.by_idempotency_key(session, caller="me", key="k")
    assert again is not None
    assert again.text == made.text
