"""Answers of two models to the same items → figures with the drop from one to the other.

Two variants answer the same items, so their difference has a much smaller error than two separate accuracies: it is
resampled item by item, and McNemar's exact test counts the items that only one of the two got right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest  # type: ignore[import-untyped]  # ships no annotations

from secateur.contract.measurements import TaskScore
from workers.engine.benchmarks.statistics import drop_interval


@dataclass(frozen=True)
class TaskRun:
    """One variant's results on one task by one filter, item by item."""

    task: str
    metric: str
    items: dict[str, float]  # the item's number in the task → what the variant scored on it
    few_shot: int
    version: str
    filter: str = "none"  # how the answer was read off
    headline: bool = True  # whether it is the first of the task's filters


def scores_of(runs: Sequence[TaskRun], original: Sequence[TaskRun] | None) -> list[TaskScore]:
    """Figures of one variant; `original` is None for the original itself."""
    before = {(run.task, run.filter): run for run in original or ()}
    return [_score(run, before.get((run.task, run.filter))) for run in runs]


def _score(run: TaskRun, original: TaskRun | None) -> TaskScore:
    values = np.array(list(run.items.values()), dtype=np.float64)
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    drop = low = high = p_value = None
    if original is not None:
        before = np.array([original.items[item] for item in run.items], dtype=np.float64)
        drop, low, high = drop_interval(before, values)
        p_value = mcnemar(before, values)
    return TaskScore(
        task=run.task,
        metric=run.metric,
        filter=run.filter,
        headline=run.headline,
        value=float(values.mean()),
        standard_error=error,
        items=len(values),
        few_shot=run.few_shot,
        version=run.version,
        drop=drop,
        drop_low=low,
        drop_high=high,
        p_value=p_value,
    )


def mcnemar(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> float:
    """Two-sided exact p of as many or more one-sided changes, were gains and losses equally likely (McNemar 1947)."""
    lost, gained = int((before > after).sum()), int((before < after).sum())
    return float(binomtest(lost, lost + gained, 0.5).pvalue) if lost + gained else 1.0
