"""Queries of jobs, and what cancel, retry and delete do to the rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import artifacts, claims, events, jobs, reports, stages
from app.db.claims import Standing
from app.db.job_pages import JobFilters, list_page
from app.db.stage_ends import Ended
from secateur.contract.errors import Conflict, NotFound
from secateur.contract.jobs import State, Verdict
from secateur.schemas.jobs import Job as ShownJob
from secateur.schemas.jobs import JobSummary, with_specs
from tests.fixtures.job_rows import PROBLEM, STAGES, finish, insert, spec, states, take, told


def test_a_new_job_waits_with_its_first_stage(session: Session) -> None:
    job = insert(session, labels={"commit": "abc"})
    assert (job.state, job.verdict, job.model_id, job.labels) == ("queued", "none", "org/model", {"commit": "abc"})
    assert [stage.key for stage in job.stages] == STAGES
    assert [stage.enqueued_at is not None for stage in job.stages] == [True] + [False] * 5
    assert stages.waiting_ids(job) == (job.stages[0].id,)
    assert told(session, job) == ["queued"]
    assert jobs.count_by_state(session)[State.QUEUED] == 1
    assert jobs.count_by_state(session)[State.FAILED] == 0


def test_a_whole_run(session: Session) -> None:
    job = insert(session)
    for position in range(6):
        claim = take(session, job)
        assert claim.token == 1
        following = finish(session, claim, "passed").send
        fresh = jobs.get(session, job.id)
        assert following == ((fresh.stages[position + 1].id,) if position < 5 else ())
    assert states(session, job) == [State.SUCCEEDED] * 7
    assert jobs.get(session, job.id).verdict is Verdict.PASSED
    report = reports.find(session, job.id)
    assert report is not None
    assert report.body == {"verdict": "passed"}
    assert told(session, job)[:4] == ["queued", "running", "check running", "check succeeded"]
    assert told(session, job)[-3:] == ["report succeeded", "verdict", "succeeded"]
    assert [event.seq for event in events.after(session, job.id)] == list(range(1, 17))
    assert [a.path for a in artifacts.list_for(session, job.id)] == sorted(f"{name}/x.json" for name in STAGES)
    with pytest.raises(NotFound):
        artifacts.get(session, job.id, "score/none")


def test_idempotency_keys_are_the_callers_own(session: Session) -> None:
    def put(caller: str, key: str | None) -> jobs.NewJob | None:
        print_ = "f" if key else None
        return jobs.insert(session, spec=spec(), caller=caller, idempotency_key=key, idempotency_fingerprint=print_)

    first = put("a", "k")
    assert first is not None
    assert put("a", "k") is None
    assert put("b", "k") is not None
    assert put("a", None) is not None
    assert put("a", None) is not None
    found = jobs.by_idempotency_key(session, caller="a", key="k")
    assert found is not None
    assert (found.id, found.fingerprint) == (first.id, "f")


def test_pages_are_newest_first_and_filtered(session: Session) -> None:
    made = [insert(session, labels={"n": str(n), "all": "x"}).id for n in range(5)]
    newest = list(reversed(made))
    seen: list[UUID] = []
    after = None
    while True:
        page = list_page(session, after=after, limit=2)
        seen += [job.id for job in summaries(page.jobs)]
        assert page.last == seen[-1]
        if not page.has_more:
            break
        after = page.last
    assert seen == newest

    def listed(**filters: Any) -> list[UUID]:
        return [job.id for job in summaries(list_page(session, filters=JobFilters(**filters)).jobs)]

    assert listed(labels={"n": "3", "all": "x"}) == [made[3]]
    assert listed(model="org/other") == []
    assert listed(part=made[2].hex[-10:]) == [made[2]]
    assert listed(part=str(made[2])[-14:].upper()) == [made[2]]  # a dash within
    assert listed(part=str(made[2])[:13] + made[2].hex[12:20]) == [made[2]]
    assert listed(part=str(made[2])[:8], labels={"n": "2"}) == [made[2]]
    assert listed(part=made[2].hex[4:12]) == []  # neither the beginning nor the end
    jobs.request_cancel(session, made[0])
    assert listed(state=State.CANCELLED) == [made[0]]
    assert len(listed(verdict=Verdict.NONE)) == 5
    assert listed(state=State.QUEUED, verdict=Verdict.NONE, model="org/model", labels={"n": "2"}) == [made[2]]


def summaries(texts: Sequence[str]) -> list[JobSummary]:
    return [JobSummary.model_validate_json(text) for text in texts]


def test_a_page_shows_what_the_rows_hold(session: Session) -> None:
    """A job as JSON that PostgreSQL has written, and the same job read as a row."""
    done, failed, new = insert(session, labels={"a": "ü"}), insert(session), insert(session)
    finish(session, take(session, done))
    claim = take(session, failed)
    claims.add_events(session, claim, [], before=0)
    claims.add_events(session, claim, [events.log("x")], before=0, progress={"done": 1, "total": 3, "unit": "blocks"})
    claims.fail(session, claim, problem=PROBLEM)
    rows = [jobs.get(session, job.id) for job in (new, failed, done)]
    texts = list_page(session).jobs
    assert summaries(texts) == [JobSummary.model_validate(row) for row in rows]
    assert with_specs(list_page(session, specs=True).jobs) == [ShownJob.model_validate(row) for row in rows]
    # clients get the text as it is, so it is what the schema would write, to the last null and microsecond
    assert [json.loads(text) for text in texts] == [shown.model_dump(mode="json") for shown in summaries(texts)]


def test_a_new_job_is_what_was_written(session: Session) -> None:
    deadline = datetime(2031, 2, 3, tzinfo=UTC)
    made = jobs.insert(
        session,
        spec=spec(labels={"b": "1", "a": "2"}, quantise=[{"kind": "int8"}]),
        caller="me",
        idempotency_key="k",
        idempotency_fingerprint="f",
        deadline_at=deadline,
    )
    assert made is not None
    row = jobs.get(session, made.id)
    assert ShownJob.model_validate_json(made.text) == ShownJob.model_validate(row)
    assert tuple(stage.id for stage in row.stages) == made.stage_ids
    assert stages.waiting_ids(row) == made.stage_ids[:1]
    assert (row.idempotency_key, row.idempotency_fingerprint, row.deadline_at) == ("k", "f", deadline)
    assert [(stage.place, stage.attempt, stage.token) for stage in row.stages] == [
        (n, 0, 0) for n in range(len(row.stages))
    ]
    (event,) = events.after(session, made.id)
    assert (event.seq, event.type, event.level, event.data, event.created_at) == (
        *(1, "state", "info", {"state": "queued"}),
        row.created_at,
    )


def test_cancelling_what_waits_is_done_at_once(session: Session) -> None:
    job = insert(session)
    jobs.request_cancel(session, job.id)
    assert states(session, job) == [State.CANCELLED] * 7
    history = told(session, job)
    jobs.request_cancel(session, job.id)  # asking again tells nothing new
    assert told(session, job) == history
    assert stages.waiting_ids(jobs.get(session, job.id)) == ()


def test_cancelling_between_two_stages(session: Session) -> None:
    job = insert(session)
    finish(session, take(session, job))
    jobs.request_cancel(session, job.id)
    assert states(session, job) == [State.CANCELLED, State.SUCCEEDED] + [State.CANCELLED] * 5
    assert told(session, job)[-2:] == ["cancelling", "cancelled"]


@pytest.mark.parametrize("end", ["succeed", "fail", "crash", "release", "cancelled"])
def test_a_cancel_wins_over_however_the_stage_ends(session: Session, end: str) -> None:
    job = insert(session)
    claim = take(session, job)
    jobs.request_cancel(session, job.id)
    assert states(session, job)[:2] == [State.CANCELLING, State.CANCELLING]
    assert claims.look(session, claim)[0] is Standing.CANCELLING
    assert claims.renew(session, claim, lease_seconds=30) is Standing.CANCELLING
    ended = {
        "succeed": lambda: finish(session, claim),
        "fail": lambda: claims.fail(session, claim, problem=PROBLEM),
        "crash": lambda: claims.crash(session, claim, problem=PROBLEM, max_attempts=3),
        "release": lambda: claims.release(session, claim, reason="shutdown"),
        "cancelled": lambda: claims.cancelled(session, claim),
    }[end]()
    assert ended == Ended(State.CANCELLED)
    assert states(session, job) == [State.CANCELLED] * 7


def test_retry_keeps_what_succeeded(session: Session) -> None:
    job = insert(session)
    finish(session, take(session, job))
    claims.fail(session, take(session, job), problem=PROBLEM)
    failed = jobs.get(session, job.id)
    assert states(session, job) == [State.FAILED, State.SUCCEEDED, State.FAILED] + [State.CANCELLED] * 4
    assert failed.problem == {**PROBLEM, "stage": "score"}
    retried = jobs.retry(session, job.id)
    assert states(session, job) == [State.QUEUED, State.SUCCEEDED] + [State.QUEUED] * 5
    assert (retried.problem, retried.finished_at, retried.cancel_requested_at) == (None, None, None)
    assert stages.waiting_ids(retried) == (retried.stages[1].id,)
    assert take(session, job).attempt == 2
    with pytest.raises(Conflict, match="running"):
        jobs.retry(session, job.id)


def test_only_a_job_that_is_over_can_be_deleted(session: Session) -> None:
    job = insert(session)
    with pytest.raises(Conflict, match="cancel it"):
        jobs.delete(session, job.id)
    jobs.request_cancel(session, job.id)
    jobs.delete(session, job.id)
    with pytest.raises(NotFound):
        jobs.get(session, job.id)
    with pytest.raises(NotFound):
        events.append(session, job.id, [events.log("too late")])


@pytest.mark.thorough
def test_a_job_with_very_many_files_and_events_can_be_deleted(session: Session) -> None:
    job = insert(session)
    jobs.request_cancel(session, job.id)
    for rows in (
        "INSERT INTO artifacts (job_id, stage, path, key, size, sha256, content_type) "
        "SELECT :job, 'score', n::text, n::text, 1, '', '' FROM generate_series(1, 100000) AS n",
        "INSERT INTO events (job_id, seq, type, level, data) "
        "SELECT :job, n, 'log', 'info', '{}' FROM generate_series(100, 100100) AS n",
    ):
        session.execute(text(rows), {"job": job.id})
    jobs.delete(session, job.id)
    assert artifacts.list_for(session, job.id) == []
    assert events.after(session, job.id) == []


def test_deadlines(session: Session) -> None:
    soon = datetime.now(UTC) - timedelta(seconds=1)
    late = jobs.insert(session, spec=spec(), caller="me", deadline_at=soon)
    assert late is not None
    insert(session)
    assert jobs.overdue(session) == [late.id]
    assert claims.claim(session, late.stage_ids[0], worker="w", lease_seconds=30) is None
    jobs.cancel_if_overdue(session, late.id)
    assert states(session, late)[0] is State.CANCELLED
    assert jobs.retry(session, late.id).deadline_at is None
    jobs.cancel_if_overdue(session, late.id)
    assert states(session, late)[0] is State.QUEUED


# claims
