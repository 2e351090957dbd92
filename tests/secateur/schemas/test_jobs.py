"""A job as it is shown: from a row, from the service's own JSON, and in a list without its spec."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from secateur.contract.jobs import State, Verdict
from secateur.schemas.jobs import Job, JobSummary, Stage, with_specs

ID = UUID("0193a1b2-0000-7000-8000-000000000001")
AT = datetime(2026, 11, 24, 18, tzinfo=UTC)
STAGE: dict[str, Any] = {"key": "prune-2", "kind": "prune", "needs": ["score"], "state": "running", "attempt": 1}
JOB: dict[str, Any] = {
    "id": str(ID),
    "state": "running",
    "verdict": "none",
    "model": "org/m",
    "labels": {"commit": "a"},
    "created_at": "2026-11-24T18:00:00Z",
    "updated_at": "2026-11-24T18:00:00Z",
    "stages": [STAGE],
    "last_event_seq": 3,
}


def test_what_is_not_told_is_null() -> None:
    job = JobSummary.model_validate(JOB)
    unknown = ("request_id", "started_at", "finished_at", "cancel_requested_at", "deadline_at", "problem")
    assert [getattr(job, name) for name in unknown] == [None] * len(unknown)
    stage = job.stages[0]
    unknown = ("added_by", "waits_for", "progress", "started_at", "finished_at", "problem")
    assert [getattr(stage, name) for name in unknown] == [None] * len(unknown)
    assert (job.id, job.state, job.verdict, job.created_at) == (ID, State.RUNNING, Verdict.NONE, AT)


def test_a_row_calls_the_model_by_another_name() -> None:
    row = SimpleNamespace(**{**JOB, "id": ID, "model_id": "org/m", "created_at": AT, "updated_at": AT})
    del row.model
    assert JobSummary.model_validate(row) == JobSummary.model_validate(JOB)
    assert json.loads(JobSummary.model_validate(row).model_dump_json())["model"] == "org/m"


@pytest.mark.parametrize("missing", sorted(JOB))
def test_each_field_that_a_job_always_has_is_needed(missing: str) -> None:
    with pytest.raises(ValidationError) as refused:
        JobSummary.model_validate({name: value for name, value in JOB.items() if name != missing})
    assert [error["loc"] for error in refused.value.errors()] == [(missing,)]


@pytest.mark.parametrize("missing", sorted(STAGE))
def test_each_field_that_a_stage_always_has_is_needed(missing: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Stage.model_validate({name: value for name, value in STAGE.items() if name != missing})
    assert [error["loc"] for error in refused.value.errors()] == [(missing,)]


def test_a_page_of_jobs_is_read_with_their_specs() -> None:
    texts = [json.dumps({**JOB, "spec": {"seed": seed}}) for seed in (1, 2)]
    jobs = with_specs(texts)
    assert [job.spec for job in jobs] == [{"seed": 1}, {"seed": 2}]
    assert jobs[0] == Job.model_validate({**JOB, "spec": {"seed": 1}})
    assert with_specs([]) == []


def test_the_problem_of_a_stage_is_whole() -> None:
    problem = {
        "type": "about:blank",
        "title": "Stage failed",
        "status": 500,
        "detail": "it broke.",
        "stage": "prune",
        "errors": [{"pointer": "/pruning/blocks", "detail": "too many", "value": 9, "expected": "at most 8"}],
        "more": "of a newer service",
    }
    shown = Stage.model_validate({**STAGE, "state": "failed", "problem": problem}).problem
    assert shown is not None
    assert shown.errors is not None
    assert (shown.errors[0].pointer, shown.errors[0].value, shown.errors[0].line) == ("/pruning/blocks", 9, None)
    assert shown.model_dump(exclude_none=True) == problem
