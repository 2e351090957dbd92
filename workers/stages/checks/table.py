"""The checks of a job, in their order: one row each.

A row's function raises InvalidInput (or a child of it) that names field, value and what is expected, and returns what
it has seen in a few words, or None where the job has nothing of the kind. It loads no weights, so that all of them
together take seconds. Whatever a library raises that no function foresaw is put to the row's own field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from secateur.contract.spec import CompressionSpec
from workers.stages.checks import (
    benchmark,
    choice,
    model,
    pruning,
    quantise,
    recovery,
    sizes,
    target_model,
    texts,
    tokenizer,
)
from workers.stages.checks.subject import Subject
from workers.stages.fields import BENCHMARK, Fields, of_recovery


@dataclass(frozen=True)
class Row:
    """One check."""

    name: str
    look: Callable[[Subject], str | None]
    pointer: str  # the field that is blamed for what nobody foresaw
    expected: str
    fields: Callable[[CompressionSpec], Fields] = lambda spec: {}  # of arguments, beside those of model and pruning
    decisive: bool = False  # where it fails, the others cannot look


def _recovery(spec: CompressionSpec) -> Fields:
    return of_recovery(spec.recovery)


def _benchmark(spec: CompressionSpec) -> Fields:
    return BENCHMARK


CHECKS: tuple[Row, ...] = (
    Row("model", model.look, "/model", "a model that transformers loads as it is", decisive=True),
    Row("pruning", pruning.look, "/pruning", "what the model can spare"),
    Row("choice", choice.look, "/scoring/finalists", "sets that can be healed and trained here"),
    Row("recovery", recovery.look, "/recovery", "a recovery that holds for the model", _recovery),
    Row("sizes", sizes.look, "/sizes", "sizes between the recovered model and the original"),
    Row("quantise", quantise.look, "/quantise", "ways to quantise that hold for the model"),
    Row("kernels", benchmark.kernels, "/benchmark", "what this worker can measure"),
    Row("latency", benchmark.latency, "/benchmark/latency", "what this worker can time", _benchmark),
    Row("samples", benchmark.samples, "/benchmark/samples", "prompts that the model's tokenizer can read"),
    Row("tasks", benchmark.tasks, "/benchmark/tasks", "tasks that lm-evaluation-harness can run", _benchmark),
    Row("tokenizer", tokenizer.look, "/model", "tokenizer files that transformers can load"),
    Row("target model", target_model.look, "/target_model", "a larger model that transformers loads as it is"),
    Row("calibration text", texts.calibration, "/scoring/calibration", "a text that can be read"),
    Row("training text", texts.training, "/recovery/text", "a text that can be read", _recovery),
    Row("measuring text", texts.measuring, "/benchmark/perplexity", "a text that can be read"),
)
