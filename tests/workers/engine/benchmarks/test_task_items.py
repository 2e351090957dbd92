"""Items of tasks that no model can answer: told with the item's number, before a model is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from secateur.contract.options.benchmark import TasksBenchmark
from tests.fixtures.task_files import DEFINITION
from workers.engine.benchmarks.tasks import load_tasks, try_requests


def with_row(folder: Path, **row: Any) -> TasksBenchmark:
    """The items with one more at their end."""
    items = folder / "items.jsonl"
    kept = json.loads(items.read_text().splitlines()[0])
    items.write_text(items.read_text() + json.dumps({**kept, **row}) + "\n")
    return TasksBenchmark(tasks=("choose_word",), folder="tasks")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"label": -1}, "item 31 has -1 as its right answer, which is none of its 3 choices"),
        ({"label": 4}, "item 31 has 4 as its right answer"),
        ({"choices": ["red", ""], "label": 0}, "item 31 has an empty choice"),
        ({"choices": ["red", "x" * 65], "label": 0}, "has 66 tokens, and the model holds 64"),
    ],
)
def test_items_that_no_model_can_answer_are_told(folder: Path, row: dict[str, Any], says: str) -> None:
    """The harness counts them as wrong, or breaks on them once models are made: a split with secret labels has -1."""
    asked = with_row(folder, **row)
    with pytest.raises(InvalidInput, match="cannot be run") as caught:
        try_requests(load_tasks(asked, roots=[folder.parent]), asked, positions=64, tokens_of=len)
    assert says in caught.value.detail
    assert caught.value.errors[0].pointer == "tasks/0"


def test_a_word_that_is_none_of_the_choices(folder: Path) -> None:
    """And where the harness's own task has one such item among others, its figure is as the harness has it."""
    (folder / "choose.yaml").write_text(DEFINITION.replace("doc_to_target: label", 'doc_to_target: "{{ noun }}"'))
    asked = TasksBenchmark(tasks=("choose_word",), folder="tasks")
    tasks = load_tasks(asked, roots=[folder.parent])
    with pytest.raises(InvalidInput, match=r"item 1 has .* which is none of its 3 choices"):
        try_requests(tasks, asked, positions=None, tokens_of=len)
    unnamed = asked.model_copy(update={"folder": None})
    with pytest.raises(InvalidInput, match="which is none of its 3 choices"):
        try_requests(tasks, unnamed, positions=None, tokens_of=len)
    (folder / "choose.yaml").write_text(DEFINITION)
    few = with_row(folder, label=-1).model_copy(update={"folder": None})
    try_requests(load_tasks(with_row(folder, label=-1), roots=[folder.parent]), few, positions=None, tokens_of=len)
