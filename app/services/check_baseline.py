"""The earlier job that a spec names to be held against: there is one, and it has measured what is to be compared."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.db.baselines import required_baseline_of
from app.services import results
from secateur.contract.comparison import readings_of
from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.metrics import METRICS
from secateur.contract.options.baseline import Baseline


def check_baseline(session: Session, baseline: Baseline) -> None:
    """Raises InvalidInput: there is no such job, or its report lacks a figure that `baseline` names."""
    job = required_baseline_of(session, baseline)
    if job is None:
        return
    report = results.report(session, job.id)
    lacking = [name for name in baseline.max_regression if not readings_of(METRICS[name], report)]
    if not lacking:
        return
    measured = ", ".join(name for name, metric in METRICS.items() if readings_of(metric, report))
    errors = [
        FieldError(
            f"/baseline/max_regression/{name}",
            f"job {job.id}, which the result is to be held against, did not measure `{name}`",
            baseline.max_regression[name],
            f"one of {measured}",
        )
        for name in lacking
    ]
    raise InvalidInput(errors[0].detail, errors=errors)
