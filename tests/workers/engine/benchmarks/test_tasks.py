"""Tasks against the harness by itself, and what users get wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lm_eval.api.registry import get_metric  # type: ignore[import-untyped]  # ships no annotations
from transformers import AutoTokenizer

from secateur.contract.errors import InvalidInput, Unavailable
from secateur.contract.options.benchmark import TasksBenchmark
from tests.fixtures.task_files import DEFINITION, GENERATED
from workers.engine.benchmarks.task_scores import scores_of
from workers.engine.benchmarks.tasks import _check_metrics, _no_scripts, _runs, load_tasks, run_tasks, try_requests
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import load_model

CPU = torch.device("cpu")


def _by_the_harness(path: Path, folder: Path) -> dict[str, Any]:
    """The figures that the harness gives for the checkpoint by itself: its own model, tasks and loop."""
    from lm_eval import simple_evaluate  # type: ignore[import-untyped]  # takes seconds; ships no annotations
    from lm_eval.tasks import TaskManager  # type: ignore[import-untyped]

    found: dict[str, Any] = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(path), "dtype": "float32"},
        tasks=["choose_word", "say_word"],
        task_manager=TaskManager(include_path=str(folder)),
        device="cpu",
        batch_size=8,
        limit=20,
        log_samples=False,
    )["results"]
    return found


@pytest.mark.thorough
def test_accuracies_are_those_of_the_harness_itself(folder: Path, tiny_checkpoint: Callable[..., Path]) -> None:
    path = tiny_checkpoint(num_hidden_layers=3)
    model: Any = load_model(Checkpoint.open(path), device=CPU, dtype=torch.float32)
    options = TasksBenchmark(tasks=("choose_word", "say_word"), folder="tasks", limit=20)
    runs, notes = run_tasks(model, AutoTokenizer.from_pretrained(path), options, roots=[folder.parent])
    assert notes == []
    score, strict, flexible = scores_of(runs, None)

    for file in folder.glob("*.yaml"):
        file.write_text(file.read_text().replace("items.jsonl", str(folder / "items.jsonl")))
    results = _by_the_harness(path, folder)
    for generated in (strict, flexible):
        assert generated.value == results["say_word"][f"exact_match,{generated.filter}"]
    theirs = results["choose_word"]
    assert (score.metric, score.items, score.few_shot, score.version) == ("acc_norm", 20, 0, "2.0")
    assert score.value == theirs["acc_norm,none"]
    assert score.standard_error == pytest.approx(theirs["acc_norm_stderr,none"], rel=1e-9)


def test_a_task_that_does_not_exist_is_refused_with_the_nearest(
    folder: Path, tiny_checkpoint: Callable[..., Path]
) -> None:
    path = tiny_checkpoint(num_hidden_layers=2)
    options = TasksBenchmark(tasks=("choose_word", "chose_word"), folder="tasks")
    with pytest.raises(InvalidInput, match='Did you mean "choose_word"') as caught:
        run_tasks(
            load_model(Checkpoint.open(path), device=CPU, dtype=torch.float32),
            AutoTokenizer.from_pretrained(path),
            options,
            roots=[folder.parent],
        )
    assert caught.value.errors[0].pointer == "tasks/1"


def test_filters_are_apart_and_the_first_is_the_headline(
    folder: Path, tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """By the second filter every other item is right, by the first none: two figures, and no mean of them."""
    path = tiny_checkpoint(num_hidden_layers=2)
    model: Any = load_model(Checkpoint.open(path), device=CPU, dtype=torch.float32)
    seen: list[tuple[int, int, str]] = []
    runs, _ = run_tasks(
        model,
        AutoTokenizer.from_pretrained(path),
        TasksBenchmark(tasks=("say_word",), folder="tasks"),
        roots=[folder.parent],
        progress=lambda done, total, unit: seen.append((done, total, unit)),
    )
    strict, flexible = scores_of(runs, runs)
    assert (strict.filter, strict.headline, strict.value, strict.items) == ("strict-match", True, 0.0, 30)
    assert (flexible.filter, flexible.headline, flexible.value, flexible.items) == ("flexible-extract", False, 0.5, 30)
    assert (strict.drop, flexible.drop) == (0.0, 0.0)
    assert seen[-1] == (30, 30, "requests")


def test_prompts_that_were_cut_are_told(folder: Path, tiny_checkpoint: Callable[..., Path]) -> None:
    (folder / "choose.yaml").write_text(DEFINITION.replace('"The {{noun}} is"', '"{{ noun * 40 }}"'))
    path = tiny_checkpoint(num_hidden_layers=2, max_position_embeddings=64)
    _, notes = run_tasks(
        load_model(Checkpoint.open(path), device=CPU, dtype=torch.float32),
        AutoTokenizer.from_pretrained(path),
        TasksBenchmark(tasks=("choose_word",), folder="tasks", limit=4),
        roots=[folder.parent],
    )
    assert "prompts of the tasks are longer than the model's 64 positions" in notes[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('"The {{noun}} is"', '"{{ noun.__class__ }}"'), "is unsafe"),
        (('"The {{noun}} is"', '"{{ absent }}"'), "'absent' is undefined"),
        (('"The {{noun}} is"', '"{{ noun"'), "unexpected end of template"),
        (('"The {{noun}} is"', '"{{ noun * 10 ** 12 }}"'), "memory"),
        (("doc_to_target: label", 'doc_to_target: "{{nowhere}}"'), "nowhere"),
        (('"{{choices}}"', '"{{noun}}"'), "invalid syntax"),
        (("validation_split: validation", "validation_split: test"), "test"),
    ],
)
def test_what_a_definition_asks_in_vain_is_told_before_a_model_is_needed(
    folder: Path, change: tuple[str, str], says: str
) -> None:
    (folder / "choose.yaml").write_text(DEFINITION.replace(*change))
    with pytest.raises(InvalidInput) as caught:
        load_tasks(TasksBenchmark(tasks=("choose_word",), folder="tasks"), roots=[folder.parent], only_own=True)
    assert says in caught.value.detail
    (error,) = caught.value.errors
    assert (error.pointer, error.value) == ("tasks/0", "choose_word")


def test_data_without_rows_are_told(folder: Path) -> None:
    (folder / "items.jsonl").write_text("")
    with pytest.raises(InvalidInput, match='"choose_word" cannot be loaded: its data have no rows'):
        load_tasks(TasksBenchmark(tasks=("choose_word",), folder="tasks"), roots=[folder.parent])


@pytest.mark.parametrize("content", ["{broken", '{"noun": 1}\n{"noun": {"a": 2}}\n', "[1, 2]\n", "\x00\x01"])
def test_data_that_cannot_be_read_are_told(folder: Path, content: str) -> None:
    (folder / "items.jsonl").write_text(content)
    with pytest.raises(InvalidInput, match='The task "choose_word" cannot be loaded') as caught:
        load_tasks(TasksBenchmark(tasks=("choose_word",), folder="tasks"), roots=[folder.parent])
    assert caught.value.errors[0].pointer == "tasks/0"


@pytest.mark.parametrize(("line", "options", "says"), [
    ('description: "{{ noun.nothing }}"', {}, "has no attribute 'nothing'"),
    ('gen_prefix: "{{ nobody }}"', {}, "'nobody' is undefined"),
    ('fewshot_split: test\nfewshot_config: {doc_to_text: "{{ nobody }}"}', {"few_shot": 2}, "'nobody' is undefined"),
    ("generation_kwargs: {max_gen_toks: 64}", {}, "has the model write 64 tokens, and the model holds 64"),
])  # fmt: skip
def test_what_breaks_on_an_item_is_told_before_a_model_is_needed(
    folder: Path, line: str, options: dict[str, Any], says: str
) -> None:
    kept = [kept for kept in GENERATED.splitlines() if not kept.startswith(line.partition(":")[0])]
    (folder / "say.yaml").write_text("\n".join([*kept, line]))
    asked = TasksBenchmark(tasks=("say_word",), folder="tasks", limit=3, **options)
    tasks = load_tasks(asked, roots=[folder.parent])
    with pytest.raises(InvalidInput) as caught:
        try_requests(tasks, asked, positions=64, tokens_of=len)
    assert says in caught.value.detail
    assert caught.value.errors[0].pointer == "tasks/0"


CHOICES = '{function: multi_choice_regex, regex_pattern: "(A|B)", fallback: "[any]"}'
SEVERAL = "{function: take_first_k, k: 2}"


@pytest.mark.parametrize(("step", "says"), [(CHOICES, "'choices'"), (SEVERAL, "Need at least 2 responses")])
def test_a_filter_that_breaks_on_any_answer_is_told_before_a_model_is_needed(
    folder: Path, step: str, says: str
) -> None:
    """One reads a column that the data do not have, the other several answers where the model writes one."""
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    for row in rows:
        del row["choices"]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    broken = f"  - {{name: broken, filter: [{step}, {{function: take_first}}]}}\n"
    (folder / "say.yaml").write_text(GENERATED + broken)
    asked = TasksBenchmark(tasks=("say_word",), folder="tasks")
    with pytest.raises(InvalidInput, match='"say_word" cannot be run') as caught:
        try_requests(load_tasks(asked, roots=[folder.parent]), asked, positions=None, tokens_of=len)
    assert says in caught.value.detail
    assert caught.value.errors[0].pointer == "tasks/0"


@pytest.mark.parametrize(
    ("name", "place"),
    [("say_word", "apply_filters"), ("say_word", "process_results"), ("choose_word", "process_results")],
)
def test_scoring_that_breaks_is_told_before_a_model_is_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    def break_down(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(f"lm_eval.api.task.ConfigurableTask.{place}", break_down)
    asked = TasksBenchmark(tasks=(name,), folder="tasks")
    with pytest.raises(InvalidInput, match=f'"{name}" cannot be run'):
        try_requests(load_tasks(asked, roots=[folder.parent]), asked, positions=None, tokens_of=len)


def test_made_up_answers_are_forgotten(folder: Path) -> None:
    asked = TasksBenchmark(tasks=("choose_word", "say_word"), folder="tasks")
    tasks = load_tasks(asked, roots=[folder.parent])
    try_requests(tasks, asked, positions=None, tokens_of=len)
    assert all(request.resps == [] for task in tasks.values() for request in task.instances)


def test_a_row_far_down_that_a_template_breaks_on_is_found(folder: Path) -> None:
    (folder / "choose.yaml").write_text(DEFINITION.replace("The {{noun}} is", "{{ 6 // (27 - noun[6:] | int) }}"))
    asked = TasksBenchmark(tasks=("choose_word", "say_word"), folder="tasks")
    tasks = load_tasks(asked, roots=[folder.parent])
    with pytest.raises(InvalidInput, match=r'"choose_word" cannot be run: .*division'):
        try_requests(tasks, asked, positions=None, tokens_of=len)
    few = asked.model_copy(update={"limit": 20})
    try_requests(load_tasks(few, roots=[folder.parent]), few, positions=None, tokens_of=len)


FOR_EVER = "(.|.)*(.|.)*(.|.)*no such end"


@pytest.mark.parametrize(
    "definition",
    [
        GENERATED.replace('"nothing is so (\\\\d+)"', f'"{FOR_EVER}"'),
        GENERATED.replace("ignore_case: true", f'regexes_to_ignore: ["{FOR_EVER}"]').partition("filter_list")[0],
    ],
)
def test_a_pattern_that_matches_for_ever_is_told(
    folder: Path, tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, definition: str
) -> None:
    monkeypatch.setattr("workers.engine.benchmarks.sandbox.MOST_SECONDS", 0.3)
    assert FOR_EVER in definition
    (folder / "say.yaml").write_text(definition.replace("max_gen_toks: 6", "max_gen_toks: 40").replace('["."]', "[]"))
    path = tiny_checkpoint(num_hidden_layers=2)
    model: Any = load_model(Checkpoint.open(path), device=CPU, dtype=torch.float32)
    options = TasksBenchmark(tasks=("say_word",), folder="tasks", limit=2)
    with pytest.raises(InvalidInput, match="a regular expression takes longer than"):
        run_tasks(model, AutoTokenizer.from_pretrained(path), options, roots=[folder.parent])


def test_metrics_that_are_scripts_are_not_run() -> None:
    """Some of the harness's own tasks name a metric of `evaluate`, which is Python from the hub."""
    with _no_scripts():
        metric = get_metric("bleurt")
    assert metric is None
    task = SimpleNamespace(_metric_fn_list={"bleurt": metric}, config=SimpleNamespace(process_results=None))
    with pytest.raises(ValueError, match="no metric bleurt"):
        _check_metrics(task)


FAULTS = [
    "lm_eval.tasks.TaskManager.load",
    "lm_eval.api.task.ConfigurableTask.download",
    "lm_eval.api.task.ConfigurableTask.doc_to_text",
    "lm_eval.api.task.ConfigurableTask.doc_to_target",
    "lm_eval.api.task.ConfigurableTask.doc_to_choice",
    "lm_eval.api.task.ConfigurableTask.construct_requests",
    "lm_eval.api.task.ConfigurableTask.process_results",
    "lm_eval.api.task.ConfigurableTask.apply_filters",
    "lm_eval.models.huggingface.HFLM.tok_encode",
    "lm_eval.models.huggingface.HFLM._model_call",
    "lm_eval.evaluator._process_results",
    "datasets.load_dataset",
]


@pytest.mark.parametrize("place", FAULTS)
@pytest.mark.parametrize(
    "fault",
    [RuntimeError("it broke"), AssertionError(), KeyError("x")],
    ids=["RuntimeError", "AssertionError", "KeyError"],
)
def test_a_fault_in_any_step_is_told_by_its_field(
    folder: Path, tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, place: str, fault: Exception
) -> None:
    path = tiny_checkpoint(num_hidden_layers=2)
    model: Any = load_model(Checkpoint.open(path), device=CPU, dtype=torch.float32)
    options = TasksBenchmark(tasks=("choose_word",), folder="tasks", limit=2)

    def break_down(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(place, break_down)
    with pytest.raises(InvalidInput) as caught:
        run_tasks(model, AutoTokenizer.from_pretrained(path), options, roots=[folder.parent])
    error = caught.value.errors[0]
    assert error.pointer.split("/")[0] == ("items" if place.endswith("tok_encode") else "tasks")
    assert error.expected
    assert (str(fault) or type(fault).__name__) in caught.value.detail


@pytest.mark.parametrize("fault", [MemoryError(), OSError(28, "No space left on device"), ConnectionError("refused")])
def test_what_is_not_the_tasks_fault_is_not_told_as_theirs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("datasets.load_dataset", break_down)
    expected = Unavailable if isinstance(fault, ConnectionError) else type(fault)
    with pytest.raises(expected):
        load_tasks(TasksBenchmark(tasks=("choose_word",), folder="tasks"), roots=[folder.parent])


def test_a_metric_that_is_no_mean_is_no_accuracy() -> None:
    def found(metric: str, values: list[Any], figure: float, better: bool = True) -> Any:
        samples = [{"doc_id": number, "filter": "none", metric: value} for number, value in enumerate(values)]
        return {
            "samples": {"t": samples},
            "results": {"t": {f"{metric},none": figure, f"{metric}_stderr,none": "N/A", "alias": "t"}},
            "higher_is_better": {"t": {metric: better}},
            "n-shot": {"t": 0},
            "versions": {"t": 1},
        }

    (run,) = _runs("t", found("acc", [1.0, 0.0, 1], 2 / 3))
    assert run.items == {"0": 1.0, "1": 0.0, "2": 1.0}
    for wrong in (
        found("perplexity", [-2.0, -1.0], 4.48),  # e to the mean, negated
        found("f1", [(1, 0), (0, 0)], 0.5),
        found("wer", [0.5, 0.5], 0.5, better=False),
        found("acc", [1.0, None], 1.0),
    ):
        with pytest.raises(InvalidInput, match="not a mean over its items"):
            list(_runs("t", wrong))
