"""Tasks by lm-evaluation-harness (`lm_eval`).

The harness is called as its own command calls it, on the model that is in memory, so accuracies are those that the
command gives, and each is held against the harness's own figure before it is told. Which metric a task has in the
paper (Shortened LLaMA, arXiv 2402.02834) stands in PAPER_METRICS; other tasks take acc_norm where they have it, else
acc, else exact_match, else their first. A task that reads answers off in several ways, by several filters, has a
figure for each; the first is its headline, as in the harness.

Whatever the harness cannot do with a task is the task's fault or its data's and is told as such: the field, the task
and what the harness said. What runs out of memory or does not reach the hub is none of theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateur.contract.catalog import near_name
from secateur.contract.errors import InvalidInput, ServiceError, Unavailable
from secateur.contract.options.benchmark import TasksBenchmark
from secateur.contract.shown import shortened
from workers.engine.benchmarks.sandbox import use_sandbox
from workers.engine.benchmarks.task_definitions import read_folder
from workers.engine.benchmarks.task_index import manager_of, plain_names, unheard_of
from workers.engine.benchmarks.task_model import harness_model
from workers.engine.benchmarks.task_scores import TaskRun
from workers.engine.blame import is_of_the_machine, words_of
from workers.engine.hub_errors import causes, why_away
from workers.engine.progress import Progress, no_progress
from workers.machine.hub_token import fetching

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
MOST_TRIED = 1000  # items of a task whose requests are written out before the job computes anything
_NEW_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_HARNESS_NEW_TOKENS = 256  # where a task says nothing
_FEW_SHOT_SEED = 1234  # the harness's
_ANSWERS: Mapping[str, Any] = {  # of the kind that a model gives to each kind of request
    "generate_until": "1",
    "loglikelihood": (-1.0, False),
    "loglikelihood_rolling": -1.0,
}
_BY_LENGTH = frozenset({"acc_norm", "acc_bytes"})
_NOT_FOUND = "DatasetNotFoundError"
_EXPECTED = "tasks that lm-evaluation-harness can run, with an accuracy"


def load_tasks(options: TasksBenchmark, *, roots: Sequence[Path], only_own: bool = False) -> dict[str, Any]:
    """The harness's task objects, by name, with their data: what runs without a model.

    Args:
        roots: the folders under which `options.folder` must lie.
        only_own: load those of the folder alone, and of the harness's look at the names only, which needs no hub.

    Raises:
        InvalidInput: there is no such task or folder, or a definition is broken or calls code, or the harness cannot
            make a task of it and its data.
        Unavailable: a task's data set cannot be fetched.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    use_sandbox()
    own = read_folder(options.folder, roots) if options.folder is not None else {}
    theirs = [name for name in options.tasks if name not in own]
    mistaken = unheard_of(theirs)
    manager = manager_of(name for name in theirs if name not in mistaken)
    for index, name in enumerate(options.tasks):
        if name not in own and name not in manager.all_tasks:
            near = near_name(name, [*own, *plain_names()])
            hint = f' Did you mean "{near}"?' if near else ""
            raise InvalidInput.field(
                f"tasks/{index}",
                f'There is no task "{name}".{hint}',
                value=name,
                expected="a task of lm-evaluation-harness, or one of the folder's",
            )
    found: dict[str, Any] = {}
    for index, name in enumerate(options.tasks):
        if only_own and name not in own:
            continue
        with _told(f"tasks/{index}", f'The task "{name}" cannot be loaded', name), _no_scripts(), fetching():
            for task_name, task in manager.load([own.get(name, name)])["tasks"].items():
                _check_metrics(task)
                found.setdefault(task_name, task)
    return found


def try_requests(
    tasks: Mapping[str, Any],
    options: TasksBenchmark,
    *,
    positions: int | None,
    tokens_of: Callable[[str], int],
) -> None:
    """Write out what the model is to be asked, without a model, and read off and score answers that are made up.

    Templates, filters and metrics break here and not after a recovery. An item of which no choice is right counts as
    wrong whatever a model says, so it is refused: the first one where a folder is the user's own, and else, as in a
    split whose labels are kept secret, where all are such.

    Args:
        tasks: as `load_tasks` gave them; they hold the requests afterwards.
        positions: that the model holds, where that is bounded.
        tokens_of: how many tokens a text has to the model.

    Raises:
        InvalidInput: a template, a filter or a metric breaks on an item, none of an item's choices is right, or more
            tokens are to be written or judged than the model holds.
    """
    most = min(options.limit or MOST_TRIED, MOST_TRIED)
    for name, task in tasks.items():
        argument = f"tasks/{options.tasks.index(name)}" if name in options.tasks else "tasks"
        new = _new_tokens(task)
        if positions is not None and new is not None and new >= positions:
            raise InvalidInput.field(
                argument,
                f'The task "{name}" has the model write {new:,} tokens, and the model holds {positions:,}.',
                value=name,
                expected=f"a task with `max_gen_toks` below {positions:,} in its `generation_kwargs`",
            )
        with _told(argument, f'The task "{name}" cannot be run', name):
            if options.few_shot is not None or task.config.num_fewshot is None:
                task.set_config(key="num_fewshot", value=options.few_shot or 0)
            task.set_fewshot_seed(seed=_FEW_SHOT_SEED)
            task.build_all_requests(limit=most)
            _try_answers(task, own=options.folder is not None)
            if positions is not None:
                _refuse_long_choices(task, positions, tokens_of)


def _try_answers(task: Any, *, own: bool) -> None:
    """Have the task read off and score an answer to each of its requests, as the harness does it afterwards."""
    from lm_eval.api.task import ConfigurableTask  # type: ignore[import-untyped]  # heavy, as below

    items: dict[Any, list[Any]] = {}
    for request in task.instances:
        request.resps = [_ANSWERS[request.request_type]] * (request.repeats or 1)
        items.setdefault(request.doc_id, []).append(request)
    task.apply_filters()
    plain = type(task).process_results is ConfigurableTask.process_results and not callable(task.config.process_results)
    if plain and task.OUTPUT_TYPE == "multiple_choice":
        faults = [_fault_of_choices(task, requests[0].doc) for requests in items.values()]
        number = next((number for number, fault in enumerate(faults, start=1) if fault is not None), None)
        if number is not None and (own or all(faults)):
            raise ValueError(f"item {number} {faults[number - 1]}")
    for requests in items.values() if plain else ():  # a program of the harness's own may want a real answer
        for filter in requests[0].filtered_resps:
            task.process_results(requests[0].doc, [request.filtered_resps[filter] for request in requests])
    for request in task.instances:
        request.resps, request.filtered_resps = [], {}


def _fault_of_choices(task: Any, item: Any) -> str | None:
    """What makes an item's score mean nothing, to stand behind the item; the harness counts it as wrong, or worse."""
    choices = task.doc_to_choice(item)
    asked = task.doc_to_text(item) if task.multiple_input else task.doc_to_target(item)
    answers = asked if isinstance(asked, list) else [asked]
    if not any(answer in choices if isinstance(answer, str) else answer in range(len(choices)) for answer in answers):
        return f"has {shortened(str(asked))} as its right answer, which is none of its {len(choices)} choices"
    if "" in choices and not _BY_LENGTH.isdisjoint(getattr(task, "_metric_fn_list", ())):
        return "has an empty choice, and acc_norm and acc_bytes divide by a choice's length"
    return None


def _refuse_long_choices(task: Any, positions: int, tokens_of: Callable[[str], int]) -> None:
    """The harness cuts a prompt that is too long, and breaks on an answer to be judged that is."""
    answers = [request.args[1] for request in task.instances if request.request_type == "loglikelihood"]
    for answer in answers:
        # a token stands for a byte at least
        if len(answer.encode("utf-8", "replace")) > positions and (tokens := tokens_of(answer)) > positions:
            raise ValueError(
                f'the answer "{shortened(answer)}" has {tokens:,} tokens, and the model holds {positions:,}'
            )


def _new_tokens(task: Any) -> int | None:
    """How many tokens an item's answer may have; None where the model only judges given ones."""
    if task.OUTPUT_TYPE != "generate_until":
        return None
    asked = task.config.generation_kwargs or {}
    return next((int(asked[key]) for key in _NEW_TOKENS if isinstance(asked.get(key), int)), _HARNESS_NEW_TOKENS)


def run_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    options: TasksBenchmark,
    *,
    roots: Sequence[Path],
    progress: Progress = no_progress,
) -> tuple[list[TaskRun], list[str]]:
    """Run the tasks on one model; returns the results, and what to mind about them.

    Args:
        progress: counts the harness's requests of a kind.

    Raises:
        InvalidInput, Unavailable: as `load_tasks`; or the harness cannot run a task, or it has no accuracy.
    """
    # Imported here: the harness takes seconds, and most jobs do without it.
    from lm_eval import simple_evaluate  # type: ignore[import-untyped]  # ships no annotations

    tasks = load_tasks(options, roots=roots)
    names = ", ".join(options.tasks)
    with (
        _told("tasks", f"The tasks {names} cannot be run", list(options.tasks)),
        _no_scripts(),
        harness_model(model, tokenizer, batch_size=options.batch_size, progress=progress) as harness,
    ):
        found: Any = simple_evaluate(
            harness,
            tasks=list(tasks.values()),
            num_fewshot=options.few_shot,
            limit=options.limit,
            bootstrap_iters=0,
            task_manager=manager_of(()),
        )
        return [run for name in found["samples"] for run in _runs(name, found)], harness.notes()


def _runs(name: str, found: Any) -> Iterator[TaskRun]:
    """One result for each of a task's filters, in the order in which the task has them."""
    results, better = found["results"][name], found["higher_is_better"].get(name, {})
    by_filter: dict[str, list[Any]] = {}
    for sample in found["samples"][name]:
        by_filter.setdefault(sample["filter"], []).append(sample)
    for index, (filter, samples) in enumerate(by_filter.items()):
        metrics = [key.rpartition(",")[0] for key in results if key.rpartition(",")[2] == filter]
        metrics = sorted(metric for metric in metrics if not metric.endswith("_stderr"))
        wanted = (PAPER_METRICS.get(name), *_PREFERRED, *metrics)
        metric = next((metric for metric in wanted if metric in metrics), "")
        values = {str(sample["doc_id"]): sample.get(metric) for sample in samples}
        numbers = [float(value) for value in values.values() if isinstance(value, int | float | np.number | np.bool_)]
        figure = results.get(f"{metric},{filter}")
        if (
            len(numbers) < len(samples)
            or not isinstance(figure, int | float | np.number)
            or not np.isclose(np.mean(numbers), figure, rtol=1e-9, atol=1e-12)
            or better.get(metric) is False
        ):
            raise InvalidInput.field(
                "tasks",
                f'The metric {metric or "(none)"} of the task "{name}" is not a mean over its items of which more is '
                "better, so no drop of it can be told.",
                value=name,
                expected="a task with an accuracy",
            )
        yield TaskRun(
            name,
            metric,
            {item: float(value) for item, value in values.items()},
            int(found["n-shot"][name] or 0),
            str(found["versions"].get(name, "")),
            filter,
            headline=index == 0,
        )


def _check_metrics(task: Any) -> None:
    """The harness leaves None where it knows no metric of a name and could not run a script from the hub instead.

    Raises:
        ValueError: the task has such a metric.
    """
    unknown = [metric for metric, function in getattr(task, "_metric_fn_list", {}).items() if function is None]
    if unknown and not callable(task.config.process_results):
        raise ValueError(f"the harness has no metric {', '.join(map(str, unknown))}; scripts from the hub are not run")


@contextmanager
def _no_scripts() -> Iterator[None]:
    """Nothing that the harness loads by a metric's name: `evaluate` would fetch it as Python and run it."""
    import evaluate  # type: ignore[import-untyped]  # ships no annotations

    def refuse(path: str, *_: object, **__: object) -> None:
        raise ValueError(f"the metric {path} is a script, and no script is run")

    before = evaluate.load
    evaluate.load = refuse
    try:
        yield
    finally:
        evaluate.load = before


@contextmanager
def _told(argument: str, what: str, value: Any) -> Iterator[None]:
    """Tell whatever fails within by the field that names the task."""
    try:
        yield
    except ServiceError:
        raise
    except Exception as error:
        chain = list(causes(error))
        # a data set of the harness's own that is not found: a hub without it, or none at all
        if why := why_away(error) or next((name for e in chain if (name := type(e).__name__) == _NOT_FOUND), None):
            raise Unavailable(
                f"{what}: the hub cannot be reached for its data ({why}); retry later, or name a "
                "folder of tasks with data files of their own."
            ) from error
        if any(is_of_the_machine(cause) for cause in chain):
            raise
        words = "its data have no rows" if isinstance(chain[-1], StopIteration) else words_of(chain[-1])
        raise InvalidInput.field(argument, f"{what}: {words}", value=value, expected=_EXPECTED) from error
