"""Measurements and gates → a verdict, each gate with its number.

A gate passes on the point estimate (the median, or the mean), and the result carries the interval, so that a reader
sees how near the limit it was. A gate on something that was not measured fails: silence is not a pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.domain.jobs import Verdict
from app.domain.results import Benchmarks, GateResult, Measurement
from app.domain.spec import Gates


@dataclass(frozen=True)
class _Reading:
    metric: str
    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" ({self.low:.4g} to {self.high:.4g})"
        return f"{self.metric} is {self.value:.6g}{interval}"


def _speedup(_: Measurement, variant: Measurement) -> _Reading | None:
    if not variant.latency or variant.latency[0].speedup is None:
        return None
    cell, ratio = variant.latency[0], variant.latency[0].speedup
    metric = f"speedup (batch {cell.batch_size}, {cell.input_tokens} + {cell.output_tokens} tokens)"
    return _Reading(metric, ratio.median, ratio.low, ratio.high)


def _perplexity_ratio(original: Measurement, variant: Measurement) -> _Reading | None:
    pairs = list(zip(variant.perplexity, original.perplexity, strict=True))
    if not pairs:
        return None
    after, before = max(pairs, key=lambda pair: pair[0].value / pair[1].value)
    return _Reading(f"perplexity ratio on {after.text.description}", after.value / before.value)


def _kl(_: Measurement, variant: Measurement) -> _Reading | None:
    if not variant.fidelity:
        return None
    worst = max(variant.fidelity, key=lambda f: f.kl)
    return _Reading(f"KL divergence on {worst.text.description}", worst.kl, worst.kl_low, worst.kl_high)


def _agreement(_: Measurement, variant: Measurement) -> _Reading | None:
    if not variant.fidelity:
        return None
    worst = min(variant.fidelity, key=lambda f: f.top1_agreement)
    return _Reading(f"top-1 agreement on {worst.text.description}", worst.top1_agreement)


def _accuracy_drop(_: Measurement, variant: Measurement) -> _Reading | None:
    drops = [task for task in variant.tasks if task.drop is not None]
    if not drops:
        return None
    mean = sum(task.drop or 0.0 for task in drops) / len(drops)
    # Items of different tasks are independent, so the half widths add in quadrature.
    half = sum((((task.drop_high or 0.0) - (task.drop_low or 0.0)) / 2) ** 2 for task in drops) ** 0.5 / len(drops)
    return _Reading(f"accuracy drop (mean of {len(drops)} tasks)", mean, mean - half, mean + half)


def _parameters(_: Measurement, variant: Measurement) -> _Reading:
    return _Reading("parameters", variant.parameters)


def _bytes(_: Measurement, variant: Measurement) -> _Reading:
    return _Reading("bytes on disk", variant.bytes_on_disk)


# gate → (how to read its metric, whether the threshold is the least allowed value)
_GATES: dict[str, tuple[Callable[[Measurement, Measurement], _Reading | None], bool]] = {
    "min_speedup": (_speedup, True),
    "max_perplexity_ratio": (_perplexity_ratio, False),
    "max_kl": (_kl, False),
    "min_top1_agreement": (_agreement, True),
    "max_accuracy_drop": (_accuracy_drop, False),
    "max_parameters": (_parameters, False),
    "max_bytes": (_bytes, False),
}


def judge(gates: Gates, benchmarks: Benchmarks, *, variant: str) -> tuple[Verdict, list[GateResult]]:
    """Judge every gate that is set on `variant`, against the original (the first of `benchmarks.variants`)."""
    original = benchmarks.variants[0]
    judged = next(m for m in benchmarks.variants if m.variant == variant)
    results = [
        _judge_one(name, threshold, read(original, judged), least)
        for name, (read, least) in _GATES.items()
        if (threshold := getattr(gates, name)) is not None
    ]
    if not results:
        return Verdict.NONE, []
    return (Verdict.PASSED if all(result.passed for result in results) else Verdict.FAILED), results


def _judge_one(name: str, threshold: float, reading: _Reading | None, least: bool) -> GateResult:
    if reading is None:
        message = f"{name}: the job did not measure what this gate needs"
        return GateResult(gate=name, metric=name, threshold=threshold, value=None, passed=False, message=message)
    passed = reading.value >= threshold if least else reading.value <= threshold
    relation = {
        (True, True): "at least",
        (True, False): "below",
        (False, True): "at most",
        (False, False): "above",
    }
    return GateResult(
        gate=name,
        metric=reading.metric,
        threshold=threshold,
        value=reading.value,
        low=reading.low,
        high=reading.high,
        passed=passed,
        message=f"{reading}, {relation[least, passed]} {threshold:.6g}",
    )
