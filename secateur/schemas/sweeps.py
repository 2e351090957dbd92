"""Sweeps as the API shows them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import Field

from secateur.contract.jobs import State, Verdict
from secateur.contract.sweep_report import PointResult
from secateur.schemas.base import Body, Timestamp
from secateur.schemas.problem import Problem


class SweepPoint(Body):
    """One point: what it differs in, and how its job stands."""

    place: int = Field(description="Among the points, from 0.")
    changes: dict[str, Any] = Field(description="What it differs in: field of the spec to value.")
    job_id: UUID
    state: State
    verdict: Verdict = Field(description="What the gates say of it.")
    stages: int = Field(description="How many stages its job has.")
    stages_done: int = Field(description="How many of them have succeeded.")
    running: list[str] = Field(description="Keys of the stages that run.")
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    problem: Problem | None = Field(default=None, description="Why the job failed.")


class SweepSummary(Body):
    """A sweep in a list."""

    id: UUID
    state: State = Field(
        description="Over when all jobs are: `failed` if one has failed, which fails no other; else `cancelled` if one "
        "was cancelled."
    )
    verdict: Verdict = Field(
        description="At the end: `passed` if a point passes all gates, `failed` if none does; `none` without gates."
    )
    model: str = Field(description="The model's hub id or path.")
    labels: dict[str, str]
    counts: dict[State, int] = Field(description="How many points stand in each state.")
    request_id: str | None = Field(default=None, description="Of the request that made the sweep: its `X-Request-Id`.")
    created_at: Timestamp
    finished_at: Timestamp | None = None


class Sweep(SweepSummary):
    """A sweep with its points."""

    asked: dict[str, Any] = Field(description="The body that made it; sent again, it makes another one.")
    gates: dict[str, Any] = Field(description="By which every point is judged.")
    points: list[SweepPoint]


class SweepChange(Body):
    """What a sweep's stream tells: how it stands, and the points that stand otherwise than before."""

    id: UUID
    state: State
    verdict: Verdict
    counts: dict[State, int] = Field(description="How many points stand in each state.")
    finished_at: Timestamp | None = None
    points: list[SweepPoint] = Field(description="Those that changed; in the first message all.")


class SweepVerdict(Body):
    """What the gates say of a sweep."""

    sweep_id: UUID
    state: State
    verdict: Verdict = Field(description="At the end: `passed` if a point passes all gates.")
    recommended: PointResult | None = Field(
        default=None, description="The best of the points that pass all gates; so far, while others run."
    )
    why: str = Field(description="Why that one, or why none, in words.")
