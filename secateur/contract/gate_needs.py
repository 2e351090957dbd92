"""Gates that a job cannot pass, since it does not measure what they judge: known when it is submitted.

The judgement itself (`gates.py`) fails such a gate, for what a measurement turns out to lack; here no hours are spent
to find out what the spec says already.
"""

from __future__ import annotations

from collections.abc import Iterator

from secateur.contract.errors import FieldError
from secateur.contract.options.benchmarks.perplexity import PerplexityBenchmark
from secateur.contract.options.gates import GATES
from secateur.contract.options.methods import Benchmark
from secateur.contract.spec import CompressionSpec

_OF_WINDOWS = ("perplexity", "fidelity")


def without_measurement(spec: CompressionSpec) -> list[FieldError]:
    """Every gate of `spec` that nothing in its benchmark can be held to."""
    return list(_without_measurement(spec))


def _without_measurement(spec: CompressionSpec) -> Iterator[FieldError]:
    for gate, metric in GATES.items():
        limit = getattr(spec.gates, gate)
        if limit is None or metric.measured_by is None:
            continue
        pointer = f"/gates/{gate}"
        if not spec.benchmark.measures(metric.measured_by):
            field = f"/benchmark/{metric.measured_by}"
            detail = f"`{gate}` judges what the job does not measure: {field} leaves it out"
            yield FieldError(pointer, detail, limit, f"no such gate, or a benchmark with `{metric.measured_by}`")
        elif metric.measured_by in _OF_WINDOWS and spec.gates.judge == "interval" and _windows(spec.benchmark) == 1:
            detail = f"`{gate}` judges an interval, and one window of a text has none"
            yield FieldError(
                pointer, detail, limit, 'at least 2 in /benchmark/perplexity/windows, or "judge": "median"'
            )


def _windows(benchmark: Benchmark) -> int:
    """Of each text, at most; fidelity is measured on the default's where perplexity is left out."""
    return (benchmark.perplexity or PerplexityBenchmark()).windows
