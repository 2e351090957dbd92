"""The report of a sweep: what its points measured, which of them are worth having, and what sharing saved.

Its schema is versioned as that of a job's report is. `sweep_results.py` makes it of the reports of the jobs.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from secateur.contract.jobs import State, Verdict
from secateur.contract.measurements import Interval
from secateur.contract.metrics import METRICS
from secateur.contract.report import GateResult
from secateur.contract.results import Result

MetricName: Any = Literal[tuple(METRICS)]

Standing = Literal["front", "dominated", "apart", "unmeasured", "no result"]


class Figure(Result):
    """One figure of a point's final variant: what a gate would judge, the worst text or the mean of the tasks."""

    value: float
    low: float | None = Field(default=None, description="95 % interval.")
    high: float | None = None
    of: str = Field(description="What exactly, in words: KL divergence on news.txt.")


class Axis(Result):
    """One of the two figures that points are held against each other by."""

    metric: str = Field(description="Its name: speedup, kl.")
    label: str
    higher_is_better: bool


class TimedCell(Result):
    """One batch size and output length at which a point's final variant was timed, by transformers."""

    batch_size: int
    input_tokens: int
    output_tokens: int
    seconds: Interval = Field(description="Of one whole generation.")
    tokens_per_second: Interval = Field(description="Those of all sequences of the batch together.")
    original_seconds: float = Field(description="The original's median in the same rounds.")
    speedup: Interval = Field(description="Over the original, of paired runs.")


class PointResult(Result):
    """One point."""

    place: int
    changes: dict[str, Any] = Field(description="What it differs in: field of the spec to value.")
    job_id: UUID
    state: State
    verdict: Verdict
    figures: dict[str, Figure] = Field(description="By the names of their metrics; what was not measured is absent.")
    cells: list[TimedCell] = Field(
        default=[],
        description="Latency and throughput in every cell of the latency grid; empty where they were not measured, or "
        "on another machine or in other cells than those of most points.",
    )
    gates: list[GateResult]
    standing: Standing = Field(
        description="front: no other point is better in both figures. dominated: one is. apart: it measured something "
        "else than the others, so they cannot be compared. unmeasured: one of the two figures is missing. no result: "
        "its job has no report."
    )
    dominated_by: int | None = Field(default=None, description="A point that is better in both figures.")
    shown: bool | None = Field(
        default=None, description="Whether the intervals show that; where they overlap in both, it may be noise."
    )
    note: str = Field(default="", description="Why there is no result, or why it stands apart.")


class Shared(Result):
    """What became of the stages of one kind."""

    kind: str
    computed: int
    taken_over: int = Field(description="From another job, of this sweep or not.")
    seconds_saved: float = Field(description="What those had taken where they were computed.")


class SweepReport(Result):
    """The whole result of a sweep, or what there is of it so far."""

    schema_version: Literal["1.0"] = "1.0"
    sweep_id: UUID
    created_at: datetime = Field(description="Of the sweep.")
    state: State
    verdict: Verdict = Field(description="At the end: passed if a point passes all gates.")
    model: str
    labels: dict[str, str]
    gates: dict[str, Any] = Field(description="By which every point is judged.")
    x: Axis
    y: Axis
    points: list[PointResult]
    front: list[int] = Field(description="Places of the points that no other dominates, from the worst x to the best.")
    recommended: int | None = Field(description="The best of the points that pass all gates; null where none does.")
    why: str = Field(description="Why that one, or why none, in words.")
    shared: list[Shared]
    notes: list[str] = Field(description="What to mind, in words.")

    @property
    def seconds_saved(self) -> float:
        return sum(kind.seconds_saved for kind in self.shared)

    def point(self, place: int) -> PointResult:
        return next(point for point in self.points if point.place == place)
