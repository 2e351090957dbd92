"""Stages that this installation has run: what the time and memory of new ones are judged by."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from app.db.session import Database

# Each kind's newest: a stage that was tried once, and whose result was its own. The check of its job says on what
# model and on what device, where the stage does not itself.
_NEWEST = text(
    """
    SELECT stage.kind, stage.seconds, stage.memory, job.spec, job.model_id,
           coalesce(stage.environment, checked.result -> 'environment') AS environment,
           checked.result -> 'model' AS model, checked.result -> 'target_model' AS target
    FROM unnest(CAST(:kinds AS text[])) AS asked (kind)
    CROSS JOIN LATERAL (
        SELECT of.kind, of.job_id, of.memory, of.result -> 'environment' AS environment,
               EXTRACT(EPOCH FROM of.finished_at - of.started_at) AS seconds
        FROM stages AS of
        WHERE of.kind = asked.kind AND of.state = 'succeeded' AND of.attempt = 1 AND of.memory IS NOT NULL
        ORDER BY of.id DESC LIMIT :limit
    ) AS stage
    JOIN jobs AS job ON job.id = stage.job_id
    JOIN stages AS checked ON checked.job_id = stage.job_id AND checked.kind = 'check' AND checked.state = 'succeeded'
    """
)
_BENCHMARKS = text(
    """
    SELECT job.spec, stage.result -> 'variants' AS variants, stage.result -> 'environment' AS environment
    FROM jobs AS job JOIN stages AS stage ON stage.job_id = job.id
    WHERE job.model_id = :model AND stage.kind = 'benchmark' AND stage.state = 'succeeded'
    ORDER BY job.id DESC LIMIT :limit
    """
)


@dataclass(frozen=True)
class StageRow:
    """A stage that has succeeded at once, with what its job says of its work."""

    kind: str
    seconds: float
    memory: int
    spec: dict[str, Any]
    model_id: str
    environment: dict[str, Any] | None  # as `secateur.contract.results.Environment`
    model: dict[str, Any]  # as `ModelInfo`
    target: dict[str, Any] | None  # likewise, of the model that a draft is for


@dataclass(frozen=True)
class BenchmarkRow:
    """What a benchmark of the model has measured."""

    spec: dict[str, Any]
    variants: list[dict[str, Any]]  # as `Measurement`
    environment: dict[str, Any]


def newest(database: Database, kinds: Collection[str], *, limit: int = 40) -> list[StageRow]:
    """The last stages of each of these kinds whose time was their own."""
    rows = database.execute(_NEWEST, {"kinds": list(kinds), "limit": limit})
    return [
        StageRow(
            row.kind, float(row.seconds), row.memory, row.spec, row.model_id, row.environment, row.model, row.target
        )
        for row in rows
        if row.model is not None
    ]


def benchmarks_of(database: Database, model_id: str, *, limit: int = 20) -> list[BenchmarkRow]:
    """The last benchmarks of jobs on exactly this hub id or path."""
    rows = database.execute(_BENCHMARKS, {"model": model_id, "limit": limit})
    return [BenchmarkRow(row.spec, row.variants, row.environment) for row in rows]
