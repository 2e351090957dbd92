"""The report of a job: what its stages handed on, and how the gates judge it.

Its schema is versioned: a field may be added in a minor version, and only a major one takes one away.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from secateur.contract.between import BetweenSizes
from secateur.contract.jobs import Verdict
from secateur.contract.measurements import Benchmarks, VariantName
from secateur.contract.planning import Chosen, Corrected, DraftPlanned, Planned, Searched, UnitCosts
from secateur.contract.results import ModelInfo, Pruned, Quantised, Recovered, Result, Scores

REPORT_SCHEMA_VERSION: Literal["1.0"] = "1.0"


class GateResult(Result):
    """One gate, judged."""

    gate: str  # "min_speedup"
    metric: str  # "speedup, batch 1, 12 + 128 tokens"
    threshold: float
    value: float | None  # None where the metric was not measured: the gate has failed then
    low: float | None = None  # interval of the value
    high: float | None = None
    judged: float | None = None  # what was held to the threshold: an end of the interval, or the value itself
    passed: bool
    message: str  # "speedup is 1.26 (1.18 to 1.34): its low end, 1.18, is below 1.25"


class TargetOutcome(Result):
    """What the job was to reach, and what it has reached."""

    figure: str  # "parameters"
    asked: float  # as in the spec: the figure, or below 1 a share of the original's
    limit: float  # the figure that was asked for
    removed: int  # blocks that went for it, whole
    value: float | None  # what the model has that the job hands out; None where it was not measured
    low: float | None = None  # interval of the value
    high: float | None = None
    met: bool  # whether the interval does not leave it out
    message: str  # all of it in a sentence


class HeldAgainst(Result):
    """The earlier job that the result was held against."""

    job_id: UUID
    created_at: datetime


class Report(Result):
    """The whole result of a job."""

    schema_version: Literal["1.0"] = REPORT_SCHEMA_VERSION
    job_id: UUID
    created_at: datetime
    spec: dict[str, Any]  # the job's spec, defaults filled in
    model: ModelInfo
    scores: Scores | None = None  # None where the blocks were named in the spec
    planned: Planned | None = None  # where it took measuring to know how many blocks go
    costs: UnitCosts | None = None  # where it took measuring to know what halves of blocks cost
    drafted: DraftPlanned | None = None  # where the best draft decided how many blocks go
    searched: Searched | None = None  # where constraints decided how many blocks go
    chosen: Chosen | None = None  # where sets of blocks were compared after healing
    pruned: Pruned
    target: TargetOutcome | None = None  # where the job was asked for one
    corrected: Corrected | None = None  # where the benchmark of the result was held to a measured target
    rounds: list[TargetOutcome] = Field(default_factory=list)  # both, where there was a second one
    round: int = 1  # that the job hands out; of it are pruned, recovered, benchmarks and all that follows from them
    recovered: Recovered | None = None
    between: BetweenSizes | None = None
    quantised: Quantised | None = None
    benchmarks: Benchmarks
    final_variant: VariantName  # the one that the gates judge and the job hands out
    verdict: Verdict
    gates: list[GateResult] = Field(default_factory=list)
    baseline: HeldAgainst | None = None  # where the spec has one and there is one
    notes: list[str] = Field(default_factory=list)  # in words: what to mind when reading the figures
