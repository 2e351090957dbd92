"""Tasks against the harness's own command, and what users get wrong with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from app.domain.benchmark_options import TasksBenchmark
from app.domain.gates import judge
from app.domain.jobs import Verdict
from app.domain.results import Benchmarks, Environment, Measurement, TaskScore
from app.domain.spec import Gates
from app.errors import InvalidInput
from workers.engine.benchmarks.tasks import TaskRun, mcnemar, read_folder, run_tasks, scores_of
from workers.engine.models import load_model

CPU = torch.device("cpu")
DEFINITION = """
task: choose_word
dataset_path: json
dataset_kwargs:
  data_files: {validation: items.jsonl}
output_type: multiple_choice
validation_split: validation
doc_to_text: "The {{noun}} is"
doc_to_target: label
doc_to_choice: "{{choices}}"
metric_list:
  - metric: acc
  - metric: acc_norm
metadata: {version: 2.0}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "tasks"
    path.mkdir(parents=True)
    (path / "choose.yaml").write_text(DEFINITION)
    words = ["cold", "a very long answer", "red", "old and grey"]
    rows = [
        {"noun": f"thing {number}", "choices": words[number % 2 : number % 2 + 3], "label": number % 3}
        for number in range(30)
    ]
    (path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_accuracies_are_those_of_the_harness_itself(
    folder: Path, tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    path = tiny_checkpoint(num_hidden_layers=3)
    model: Any = load_model(path, device=CPU, dtype=torch.float32)
    options = TasksBenchmark(tasks=("choose_word",), folder="tasks", limit=20)
    (run,) = run_tasks(model, AutoTokenizer.from_pretrained(path), options, roots=[folder.parent])
    (score,) = scores_of([run], None)

    (folder / "choose.yaml").write_text(DEFINITION.replace("items.jsonl", str(folder / "items.jsonl")))
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", "choose_word", "--limit", "20"]
    command += ["--model_args", f"pretrained={path},dtype=float32", "--device", "cpu", "--batch_size", "8"]
    command += ["--include_path", str(folder), "--output_path", str(tmp_path / "out")]
    environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "their-cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = (tmp_path / "out").rglob("results_*.json")
    theirs = json.loads(file.read_text())["results"]["choose_word"]
    assert (score.metric, score.items, score.few_shot, score.version) == ("acc_norm", 20, 0, "2.0")
    assert score.value == theirs["acc_norm,none"]
    assert score.standard_error == pytest.approx(theirs["acc_norm_stderr,none"], rel=1e-9)


def test_a_drop_is_judged_on_the_items_and_not_by_two_errors() -> None:
    generator = np.random.default_rng(0)
    right = (generator.random(400) < 0.6).astype(float)
    worse = right.copy()
    worse[np.flatnonzero(right)[:20]] = 0  # 20 items lost, none gained
    before, after = (
        TaskRun("t", "acc", {str(index): value for index, value in enumerate(values)}, 0, "1")
        for values in (right, worse)
    )
    (score,) = scores_of([after], [before])
    assert score.drop == pytest.approx(0.05)
    assert score.p_value == pytest.approx(2 * 0.5**20)
    assert score.drop_low is not None
    assert score.standard_error is not None
    assert 0 < score.drop_low < 0.05
    assert score.drop_low > 0.05 - 1.96 * 2**0.5 * score.standard_error  # two separate errors would not tell them apart
    assert mcnemar(right, right) == 1.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("doc_to_text:", "process_docs: !function evil.run\ndoc_to_text:"), "may not call code"),
        (("items.jsonl", "../../secret.jsonl"), "not in its folder"),
        (("items.jsonl", "absent.jsonl"), "not in its folder"),
        (("task: choose_word", "group: x"), "has no `task`"),
        (("task: choose_word", "task: choose_word\ninclude: other.yaml"), "includes other files"),
        (("dataset_kwargs:\n  data_files: {validation: items.jsonl}\n", ""), "names no `data_files`"),
    ],
)
def test_definitions_that_reach_out_are_refused(folder: Path, change: tuple[str, str], says: str) -> None:
    (folder.parent.parent / "secret.jsonl").write_text("{}")
    (folder / "choose.yaml").write_text(DEFINITION.replace(*change))
    with pytest.raises(InvalidInput, match=says) as caught:
        read_folder("tasks", [folder.parent])
    assert caught.value.errors[0].pointer == "/benchmark/tasks/folder"


@pytest.mark.parametrize("name", ["absent", "..", "/etc"])
def test_a_folder_outside_the_roots_is_not_found(folder: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="no folder"):
        read_folder(name, [folder.parent])


def test_a_task_that_does_not_exist_is_refused_with_the_nearest(
    folder: Path, tiny_checkpoint: Callable[..., Path]
) -> None:
    path = tiny_checkpoint(num_hidden_layers=2)
    options = TasksBenchmark(tasks=("choose_word", "chose_word"), folder="tasks")
    with pytest.raises(InvalidInput, match='Did you mean "choose_word"') as caught:
        run_tasks(
            load_model(path, device=CPU, dtype=torch.float32),
            AutoTokenizer.from_pretrained(path),
            options,
            roots=[folder.parent],
        )
    assert caught.value.errors[0].pointer == "/benchmark/tasks/tasks/1"


def test_a_gate_on_accuracy_reads_the_mean_drop() -> None:
    def score(drop: float | None) -> TaskScore:
        low, high = (None, None) if drop is None else (drop - 0.01, drop + 0.01)
        return TaskScore(
            task="t", metric="acc", value=0.5, items=9, few_shot=0, version="1", drop=drop, drop_low=low, drop_high=high
        )

    def measured(name: str, *drops: float | None) -> Measurement:
        tasks = [score(drop) for drop in drops]
        return Measurement(variant=name, parameters=1, blocks=1, bytes_on_disk=1, tasks=tasks)

    machine = Environment(device="cpu", device_name="", dtype="", threads=1, platform="", python="", versions={})
    variants = [measured("original", None, None), measured("pruned", 0.02, 0.06)]
    benchmarks = Benchmarks(variants=variants, environment=machine, seconds=0)
    verdict, (gate,) = judge(Gates(max_accuracy_drop=0.03), benchmarks, variant="pruned")
    assert verdict is Verdict.FAILED
    assert gate.value == pytest.approx(0.04)
    assert gate.high == pytest.approx(0.04 + 0.01 / 2**0.5)
