"""Jobs as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import AliasChoices, Field, TypeAdapter

from secateur.contract.jobs import State, Verdict
from secateur.contract.use import StageUse
from secateur.schemas.base import Body, Timestamp
from secateur.schemas.problem import Problem


class StageProgress(Body):
    """How far a stage has come."""

    done: int
    total: int
    unit: str = Field(description='What is counted: "blocks", "steps", "runs".')


class Stage(Body):
    """One step of a job."""

    key: str = Field(description="Its own within the job; logs, events and artifacts name the stage by it.")
    kind: str = Field(description="What it does: one of the kinds of stage, such as `score` or `prune`.")
    needs: list[str] = Field(description="Keys of the stages that it waits for.")
    added_by: str | None = Field(default=None, description="The stage that added it; null for those of the spec.")
    state: State
    waits_for: UUID | None = Field(
        default=None, description="The job whose identical stage computes just now; its result is taken over."
    )
    attempt: int = Field(description="How often it was started; 0 before the first time.")
    progress: StageProgress | None = None
    memory_bytes: int | None = Field(
        default=None,
        validation_alias=AliasChoices("memory_bytes", "memory"),
        description="The most that its processes used, mapped files apart; known when it has succeeded, unless its "
        "result was another job's.",
    )
    use: StageUse | None = Field(
        default=None,
        description="What it uses of its machine, as it was measured last while it ran; null before, and where its "
        "result was another job's.",
    )
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    problem: Problem | None = None


class JobSummary(Body):
    """A job in a list: everything but its spec."""

    id: UUID
    state: State
    verdict: Verdict = Field(description="What the gates say; apart from the state.")
    model: str = Field(description="The model's hub id or path.", validation_alias=AliasChoices("model", "model_id"))
    labels: dict[str, str]
    sweep_id: UUID | None = Field(default=None, description="The sweep that it is a point of.")
    request_id: str | None = Field(
        default=None, description="Of the request that made the job: its `X-Request-Id`. Logs have it in every line."
    )
    created_at: Timestamp
    updated_at: Timestamp
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    cancel_requested_at: Timestamp | None = None
    deadline_at: Timestamp | None = Field(default=None, description="When it is cancelled if it still runs.")
    stages: list[Stage]
    problem: Problem | None = Field(default=None, description="Why the job failed.")
    last_event_seq: int = Field(description="The number of its newest event.")


class QueuePlace(Body):
    """Where a job stands one of whose stages waits for a worker."""

    position: int = Field(
        description="At the latest, since callers take turns; 1: its stage is the next one that a free worker takes."
    )
    workers: int = Field(description="Workers that are up and take stages. 0: nothing runs until there is one.")
    expected_start: Timestamp | None = Field(
        default=None,
        description="When a worker takes its stage, by what stands before it and by how long such stages took here. "
        "Null: unknown, since nothing like them has run here, or no worker is up.",
    )
    expected_end: Timestamp | None = Field(
        default=None, description="When the whole job is over, likewise; earlier where results are taken over."
    )


class Job(JobSummary):
    """A job with its spec, every default filled in."""

    asked_of: UUID | None = Field(
        default=None, description="The job whose models it is to answer a question with; null of any other job."
    )
    queue: QueuePlace | None = Field(
        default=None, description="Null where nothing of it waits for a worker, and in the answer that made it."
    )
    spec: dict[str, Any]


_JOBS = TypeAdapter(list[Job])


def with_specs(texts: Sequence[str]) -> list[Job]:
    """Jobs of a page that was read with specs, from the JSON texts of `app.db.job_pages`."""
    return _JOBS.validate_json(f"[{','.join(texts)}]")
