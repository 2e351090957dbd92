"""An index of the harness's tasks that holds no more than is asked for."""

from __future__ import annotations

from workers.engine.benchmarks.task_index import manager_of, plain_names, unheard_of
from workers.engine.benchmarks.tasks import PAPER_METRICS


def test_the_papers_tasks_need_their_own_folders_only() -> None:
    manager = manager_of(PAPER_METRICS)
    assert set(PAPER_METRICS) <= set(manager.all_tasks)
    assert len(manager.all_tasks) < 100  # of 14,000
    for name in PAPER_METRICS:
        entry = manager.task_index[name]
        assert f"task: {name}" in entry.yaml_path.read_text()


def test_no_names_need_no_index() -> None:
    assert manager_of([]).all_tasks == []


def test_a_name_in_no_definition_is_unheard_of() -> None:
    assert {"piqa", "mmlu", "boolq"} <= set(plain_names())
    inline = "belebele_acm_Arab"  # a line of its own, in one of many generated files
    asked = ["piqa", "mmlu", inline, "piq", "a_task_that_nobody_wrote", "nor (this)"]
    assert unheard_of(asked) == {"piq", "a_task_that_nobody_wrote", "nor (this)"}
