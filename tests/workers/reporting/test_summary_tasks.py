"""Accuracies in the report's tables."""

from __future__ import annotations

from typing import Any

from secateur.contract.results import Measurement, TaskScore
from workers.reporting.summary import NOT_MEASURED, _tasks


def measured(name: str, *scores: TaskScore) -> Measurement:
    return Measurement(variant=name, parameters=1, blocks=1, bytes_on_disk=1, tasks=list(scores))


def test_a_task_has_a_row_with_its_metric_and_the_drop_with_its_test() -> None:
    common: dict[str, Any] = {"task": "piqa", "metric": "acc", "items": 200, "few_shot": 0, "version": "1.0"}
    original = TaskScore(**common, value=0.64, standard_error=0.034)
    pruned = TaskScore(
        **common, value=0.6, standard_error=0.035, drop=0.04, drop_low=0.01, drop_high=0.07, p_value=0.021
    )
    (group,) = _tasks([measured("original", original), measured("pruned", pruned), measured("recovered")])
    (row,) = group.rows
    assert row.label == "piqa"
    assert row.how == "acc, 200 items, zero-shot, version 1.0"
    assert row.cells[0].value.startswith("64")
    assert row.cells[0].change == ""
    assert row.cells[1].change != ""
    assert "p 0.021" in row.cells[1].interval
    assert row.cells[2] is NOT_MEASURED


def test_without_tasks_there_is_no_such_table() -> None:
    assert list(_tasks([measured("original")])) == []
