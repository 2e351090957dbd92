"""Gates that a job cannot pass, whatever comes out of it: known when it is submitted.

A gate needs its figure, and unless it judges the figure itself an interval whose worse end can reach the limit: one
sample has no interval, and a share of 16 answers has none that begins above 0.79. The judgement itself (`gates.py`)
fails such a gate; here no hours are spent to find out what the spec says already. What the model or the tasks tell
(how many items a task has) is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil, floor, log

from secateur.contract.errors import FieldError
from secateur.contract.metrics import METRICS
from secateur.contract.options.benchmark import (
    GRAM,
    Benchmark,
    EngineName,
    GenerationBenchmark,
    PerplexityBenchmark,
    SamplesBenchmark,
    TasksBenchmark,
)
from secateur.contract.options.gates import GATES
from secateur.contract.spec import CompressionSpec, HubModel

_TAIL = 0.025  # of an interval of 95 %, on each side
_BY_MEDIAN = '"judge": "median"'


@dataclass(frozen=True)
class _Gate:
    """One gate that is set, with what the job measures for it."""

    name: str
    limit: float
    by_interval: bool
    spec: CompressionSpec

    @property
    def benchmark(self) -> Benchmark:
        return self.spec.benchmark


_Found = tuple[str, str]  # why the gate cannot pass, and what is expected


def never_passed(spec: CompressionSpec) -> list[FieldError]:
    """Every gate of `spec` that no measurement of the job can pass."""
    return [*_never_passed(spec), *_never_compared(spec)]


def _never_compared(spec: CompressionSpec) -> Iterator[FieldError]:
    """Figures that a result is to be held to an earlier one's by, and that the job does not measure."""
    for name, limit in spec.baseline.max_regression.items() if spec.baseline else ():
        part = METRICS[name].measured_by
        if part is not None and not spec.benchmark.measures(part):
            detail = f"the job does not measure `{name}`, to hold it against another's: /benchmark/{part} leaves it out"
            expected = f"no `{name}` here, or a benchmark with `{part}`"
            yield FieldError(f"/baseline/max_regression/{name}", detail, limit, expected)


def _never_passed(spec: CompressionSpec) -> Iterator[FieldError]:
    for name, metric in GATES.items():
        limit = getattr(spec.judged, name)
        if limit is None or metric.measured_by is None:
            continue
        pointer = f"/gates/{name}" if getattr(spec.gates, name) is not None else f"/pruning/constraints/{name}"
        if metric.of_tokens and spec.changes_vocabulary:
            detail = f"`{name}` compares predictions token by token, and pruning of the vocabulary leaves other tokens"
            yield FieldError(pointer, detail, limit, "no such gate; `max_bits_per_byte_rise` stands in its place")
            continue
        if metric.in_any_tokens and not spec.changes_vocabulary:
            detail = f"`{name}` is for models of other tokens than the original, and is measured of no other"
            yield FieldError(pointer, detail, limit, "no such gate, or pruning of the kind `vocabulary`")
            continue
        if not spec.benchmark.measures(metric.measured_by):
            field = f"/benchmark/{metric.measured_by}"
            detail = f"`{name}` judges what the job does not measure: {field} leaves it out"
            yield FieldError(pointer, detail, limit, f"no such gate, or a benchmark with `{metric.measured_by}`")
            continue
        found = _RULES.get(name, _reached)(_Gate(name, limit, spec.gates.judge == "interval", spec))
        if found is not None:
            yield FieldError(pointer, found[0], limit, found[1])


def _reached(gate: _Gate) -> _Found | None:
    """Of a figure that has an interval in any case, which may end anywhere."""
    return None


def _of_windows(gate: _Gate) -> _Found | None:
    """At most so many of each text; fidelity is measured on the default's where perplexity is left out."""
    windows = (gate.benchmark.perplexity or PerplexityBenchmark()).windows
    if windows > 1 or not gate.by_interval:
        return None
    detail = f"`{gate.name}` judges an interval, and one window of a text has none"
    return detail, f"at least 2 in /benchmark/perplexity/windows, or {_BY_MEDIAN}"


def _of_samples(gate: _Gate) -> _Found | None:
    prompts = len(_samples(gate).prompts)
    least = 2 if gate.by_interval else 1
    if prompts >= least:
        return None
    if prompts == 0:
        detail = f"`{gate.name}` judges samples, and /benchmark/samples/prompts asks for none"
        return detail, f"no such gate, or at least {least} in /benchmark/samples/prompts"
    detail = f"`{gate.name}` judges an interval, and one sample has none"
    return detail, f"at least 2 in /benchmark/samples/prompts, or {_BY_MEDIAN}"


def _repetition(gate: _Gate) -> _Found | None:
    tokens = _samples(gate).max_new_tokens
    if tokens >= GRAM:
        return _of_samples(gate)
    detail = f"`{gate.name}` judges {GRAM}-grams of tokens, and samples of at most {tokens} have none"
    return detail, f"no such gate, or at least {GRAM} in /benchmark/samples/max_new_tokens"


def _sample_length(gate: _Gate) -> _Found | None:
    tokens = _samples(gate).max_new_tokens
    if gate.limit <= tokens:
        return _of_samples(gate)
    detail = f"`{gate.name}` asks for more tokens than a sample may have: {tokens}"
    return detail, f"at most {tokens}, or more in /benchmark/samples/max_new_tokens"


def _same_text(gate: _Gate) -> _Found | None:
    """The interval of a share (Clopper and Pearson 1934) begins at 0.025^(1/n) where all n answers are the same."""
    generation = _generation(gate)
    answers = _answers(generation)
    highest = _TAIL ** (1 / answers)
    if not gate.by_interval or gate.limit <= highest:
        return None
    detail = (
        f"`{gate.name}` judges an interval, and that of {answers} answers begins at {_down(highest)} even if all are "
        "the original's"
    )
    ways = [f"at most {_down(highest)}"]
    needed = ceil(log(_TAIL) / log(gate.limit) / len(set(generation.checks))) if gate.limit < 1 else None
    most = GenerationBenchmark.model_fields["prompts"].metadata
    if needed is not None and needed <= max(getattr(bound, "le", 0) for bound in most):
        ways.append(f"at least {needed} in /benchmark/generation/prompts")
    return detail, ", ".join([*ways, f"or {_BY_MEDIAN}"])


def _exact_match(gate: _Gate) -> _Found | None:
    if _answers(_generation(gate)) > 1:
        return None
    return _drop_of_one(gate, "one answer", "/benchmark/generation/prompts")


def _accuracy(gate: _Gate) -> _Found | None:
    """Of one item of one task; a name may stand for a group of tasks, so only those of the default are known to be."""
    tasks = gate.benchmark.tasks
    assert tasks is not None, "it is measured"
    known = TasksBenchmark.model_fields["tasks"].default
    if tasks.limit != 1 or len(set(tasks.tasks)) > 1 or tasks.tasks[0] not in known:
        return None
    return _drop_of_one(gate, "one item", "/benchmark/tasks/limit")


def accuracy_of_one_item(spec: CompressionSpec) -> FieldError | None:
    """As `never_passed` tells it, where the tasks themselves tell that there is one item in all."""
    limit = spec.judged.max_accuracy_drop
    if limit is None:
        return None
    gate = _Gate("max_accuracy_drop", limit, spec.gates.judge == "interval", spec)
    found = _drop_of_one(gate, "one item", "/benchmark/tasks/limit, or a task with more")
    return None if found is None else FieldError(f"/gates/{gate.name}", found[0], gate.limit, found[1])


def _drop_of_one(gate: _Gate, what: str, field: str) -> _Found | None:
    """An outcome of one has as much unseen as a share can have: the interval ends at 0.95 or above."""
    least = 1 - 2 * _TAIL  # where the original is wrong and the variant right
    if not gate.by_interval or gate.limit >= least:
        return None
    detail = f"`{gate.name}` judges an interval, and that of {what} ends at {least:g} or above, whatever it is"
    return detail, f"at least 2 in {field}, or {_BY_MEDIAN}"


def _samples(gate: _Gate) -> SamplesBenchmark:
    assert gate.benchmark.samples is not None, "it is measured"
    return gate.benchmark.samples


def _generation(gate: _Gate) -> GenerationBenchmark:
    assert gate.benchmark.generation is not None, "it is measured"
    return gate.benchmark.generation


def _answers(generation: GenerationBenchmark) -> int:
    return generation.prompts * len(set(generation.checks))


def _down(share: float) -> float:
    """Three decimals, rounded to the side on which the limit can be met."""
    return floor(share * 1000) / 1000


def _timed_by(engine: EngineName) -> Callable[[_Gate], _Found | None]:
    """Of a speedup, which is measured by the engines that the job names; by all that there are if it names none."""

    def found(gate: _Gate) -> _Found | None:
        latency = gate.benchmark.latency
        assert latency is not None, "it is measured"
        if latency.times_by(engine):
            return _no_file(gate) if engine == "llama_cpp" else None
        detail = f"`{gate.name}` judges what the job does not measure: /benchmark/latency/engines leaves out `{engine}`"
        return detail, f"no such gate, or `{engine}` among /benchmark/latency/engines"

    return found


def _no_file(gate: _Gate) -> _Found | None:
    """A model of the hub is never a GGUF file."""
    if not isinstance(gate.spec.model, HubModel) or any(way.kind == "gguf" for way in gate.spec.quantise):
        return None
    detail = f"`{gate.name}` judges GGUF files, of which the job makes none"
    return detail, "no such gate, or a way to quantise of the kind `gguf` in /quantise"


_RULES: Mapping[str, Callable[[_Gate], _Found | None]] = {
    "min_speedup": _timed_by("transformers"),
    "min_llama_cpp_speedup": _timed_by("llama_cpp"),
    "min_vllm_speedup": _timed_by("vllm"),
    "max_perplexity_ratio": _of_windows,
    "max_bits_per_byte_rise": _of_windows,
    "max_kl": _of_windows,
    "min_top1_agreement": _of_windows,
    "max_accuracy_drop": _accuracy,
    "max_exact_match_drop": _exact_match,
    "min_same_text": _same_text,
    "max_repetition": _repetition,
    "min_sample_length": _sample_length,
}
