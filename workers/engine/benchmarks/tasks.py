"""Zero-shot tasks, by lm-evaluation-harness (`lm_eval`), with the drop from the original judged on the items.

The harness is called as its own command calls it, on the model that is in memory, so accuracies are those that the
command gives. Which metric a task has in the paper (Shortened LLaMA, arXiv 2402.02834) stands in PAPER_METRICS; other
tasks take acc_norm where they have it, else acc, else their first. Two variants answer the same items, so their
difference has a much smaller error than two separate accuracies: it is resampled item by item, and McNemar's exact
test counts the items that only one of the two got right.

A folder of task definitions comes from a user. Its YAML is read here and not by the harness, which would import
Python files that a definition names; so such a definition is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import binomtest  # type: ignore[import-untyped]  # ships no annotations
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.domain.benchmark_options import TasksBenchmark
from app.domain.catalog import near_name
from app.domain.results import TaskScore
from app.errors import InvalidInput, ServiceError, Unavailable
from workers.engine.benchmarks.statistics import drop_interval
from workers.engine.benchmarks.task_index import manager_of, plain_names, unheard_of

PAPER_METRICS = {
    "arc_challenge": "acc_norm",
    "arc_easy": "acc",
    "boolq": "acc",
    "hellaswag": "acc_norm",
    "openbookqa": "acc_norm",
    "piqa": "acc",
    "winogrande": "acc",
}
_PREFERRED = ("acc_norm", "acc", "exact_match")
_POINTER = "/benchmark/tasks"


@dataclass(frozen=True)
class TaskRun:
    """One variant's results on one task, item by item."""

    task: str
    metric: str
    items: dict[str, float]  # the harness's hash of an item → what the variant scored on it
    few_shot: int
    version: str


def run_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    options: TasksBenchmark,
    *,
    roots: Sequence[Path],
) -> list[TaskRun]:
    """Run the tasks on one model.

    Args:
        roots: the folders under which `options.folder` must lie.

    Raises:
        InvalidInput: there is no such task or folder, or a definition is broken or calls code.
        Unavailable: a task's data set cannot be fetched.
    """
    # Imported here: the harness takes seconds, and most jobs do without it.
    from lm_eval import simple_evaluate  # type: ignore[import-untyped]  # ships no annotations
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-untyped]

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    own = read_folder(options.folder, roots) if options.folder is not None else {}
    theirs = [name for name in options.tasks if name not in own]
    mistaken = unheard_of(theirs)
    manager = manager_of(name for name in theirs if name not in mistaken)
    named: list[Any] = []
    for index, name in enumerate(options.tasks):
        if name not in own and name not in manager.all_tasks:
            near = near_name(name, [*own, *plain_names()])
            hint = f' Did you mean "{near}"?' if near else ""
            raise InvalidInput.field(
                f"{_POINTER}/tasks/{index}",
                f'There is no task "{name}".{hint}',
                value=name,
                expected="a task of lm-evaluation-harness, or one of the folder's",
            )
        named.append(own.get(name, name))
    harness: Any = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=options.batch_size)
    try:
        found: Any = simple_evaluate(
            harness,
            tasks=named,
            num_fewshot=options.few_shot,
            limit=options.limit,
            bootstrap_iters=0,
            task_manager=manager,
        )
    except ServiceError:
        raise
    except Exception as error:
        if (known := _task_error(error, options)) is not None:
            raise known from error
        raise
    return [_one_run(name, found) for name in found["samples"]]


def scores_of(runs: Sequence[TaskRun], original: Sequence[TaskRun] | None) -> list[TaskScore]:
    """Figures of one variant; `original` is None for the original itself."""
    before = {run.task: run for run in original or ()}
    return [_score(run, before.get(run.task)) for run in runs]


def read_folder(folder: str, roots: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """The task definitions of a folder, by name, with their data files made absolute.

    Raises:
        InvalidInput: the folder is not under the roots, or a definition is broken, calls code, or reads files
            outside the folder.
    """
    path = find_folder(folder, roots)
    found = {}
    for file in sorted([*path.glob("*.yaml"), *path.glob("*.yml")]):
        try:
            definition = yaml.safe_load(file.read_text(encoding="utf-8"))  # refuses !function, which names code
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise _bad_definition(file, "is no plain YAML; definitions may not call code", error) from error
        if not isinstance(definition, dict) or not isinstance(definition.get("task"), str):
            raise _bad_definition(file, "has no `task`, the name of one task")
        if "include" in definition or "class" in definition:
            raise _bad_definition(file, "includes other files or classes, which is not taken")
        found[definition["task"]] = _with_own_files(definition, file)
    return found


def find_folder(folder: str, roots: Sequence[Path]) -> Path:
    """Where a folder of task definitions lies.

    Raises:
        InvalidInput: it is not under the roots.
    """
    pointer = f"{_POINTER}/folder"
    given = Path(folder)
    candidates = [given] if given.is_absolute() else [root / given for root in roots]
    reals = [candidate.resolve() for candidate in candidates]
    inside = [root.resolve() for root in roots]
    path = next((p for p in reals if p.is_dir() and any(p.is_relative_to(root) for root in inside)), None)
    if path is None:
        raise InvalidInput.field(
            pointer,
            f'There is no folder "{folder}" under the data roots.',
            value=folder,
            expected="a folder with YAML files of tasks",
        )
    return path


def _with_own_files(definition: dict[str, Any], file: Path) -> dict[str, Any]:
    """The definition with `data_files` as absolute paths inside its folder."""
    settings = dict(definition.get("dataset_kwargs") or {})

    def absolute(name: Any) -> Any:
        if isinstance(name, dict):
            return {key: absolute(value) for key, value in name.items()}
        if isinstance(name, list):
            return [absolute(value) for value in name]
        real = (file.parent / str(name)).resolve()
        if not real.is_relative_to(file.parent) or not real.is_file():
            raise _bad_definition(file, f'names the data file "{name}", which is not in its folder')
        return str(real)

    if "data_files" in settings:
        settings["data_files"] = absolute(settings["data_files"])
    elif definition.get("dataset_path") in ("json", "csv", "parquet", "text", "arrow"):
        raise _bad_definition(file, "names no `data_files` in `dataset_kwargs`")
    return {**definition, "dataset_kwargs": settings} if settings else definition


def _bad_definition(file: Path, what: str, error: Exception | None = None) -> InvalidInput:
    detail = f"{file.name} {what}" + (f": {_first_line(error)}" if error else ".")
    return InvalidInput.field(f"{_POINTER}/folder", detail, value=file.name, expected="a plain task definition")


def _one_run(name: str, found: Any) -> TaskRun:
    samples = found["samples"][name]
    metrics = {metric.partition(",")[0] for metric in found["results"][name] if "," in metric}
    metrics = {metric for metric in metrics if not metric.endswith("_stderr")}
    wanted = (PAPER_METRICS.get(name), *_PREFERRED)
    metric = next((metric for metric in wanted if metric in metrics), None) or sorted(metrics)[0]
    seen: dict[str, float] = {}
    for number, sample in enumerate(samples):
        if not isinstance(sample.get(metric), int | float | np.number | bool):
            raise InvalidInput.field(
                f"{_POINTER}/tasks",
                f'The metric {metric} of the task "{name}" is not a mean over items, so it cannot be compared.',
                value=name,
                expected="a task with an accuracy",
            )
        seen[f"{sample['doc_id']}/{sample.get('filter', number)}"] = float(sample[metric])
    return TaskRun(name, metric, seen, int(found["n-shot"][name] or 0), str(found["versions"].get(name, "")))


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


def _task_error(error: Exception, options: TasksBenchmark) -> ServiceError | None:
    """What a failure in the harness means to the user; None where it is a defect."""
    names = ", ".join(options.tasks)
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__name__ in (
        "OfflineModeIsEnabled",
        "LocalEntryNotFoundError",
        "DatasetNotFoundError",
        "ConnectError",
        "ConnectTimeout",
        "ReadTimeout",
        "HfHubHTTPError",
    ):
        return Unavailable(
            f"The hub cannot be reached for the data of the tasks {names} ({type(error).__name__}); retry later, or "
            "name a folder of tasks with data files of their own."
        )
    if isinstance(error, KeyError | ValueError | TypeError | FileNotFoundError):
        return InvalidInput.field(
            f"{_POINTER}/tasks",
            f"The tasks {names} cannot be run: {_first_line(error)}",
            value=list(options.tasks),
            expected="tasks of lm-evaluation-harness",
        )
    return None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:500]
