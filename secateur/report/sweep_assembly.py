"""How the points of a sweep stand so far → its report, by a pair of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from secateur.contract.jobs import State, Verdict
from secateur.contract.metrics import METRICS
from secateur.contract.sweep_report import Shared, SweepReport
from secateur.contract.sweep_results import PointSoFar, axis_of, front_of, point_results, recommend
from secateur.report.sweep_words import notes_of


def assemble_sweep(
    points: Sequence[PointSoFar],
    *,
    x: str,
    y: str,
    sweep_id: UUID,
    created_at: datetime,
    state: State,
    verdict: Verdict,
    model: str,
    labels: Mapping[str, str],
    gates: Mapping[str, Any],
    shared: Sequence[Shared],
) -> SweepReport:
    """Hold the points against each other by the metrics of these names."""
    results = point_results(points, METRICS[x], METRICS[y])
    recommended, why = recommend(results, gates, METRICS[x], METRICS[y])
    return SweepReport(
        sweep_id=sweep_id,
        created_at=created_at,
        state=state,
        verdict=verdict,
        model=model,
        labels=dict(labels),
        gates=dict(gates),
        x=axis_of(METRICS[x]),
        y=axis_of(METRICS[y]),
        points=results,
        front=front_of(results, METRICS[x]),
        recommended=recommended,
        why=why,
        shared=list(shared),
        notes=notes_of(points, results, gates),
    )
