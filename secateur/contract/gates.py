"""Measurements and gates → a verdict, each gate with its number.

A gate judges the safe side of its figure's interval unless it is told to judge the figure itself (`judge`): a speedup
of 1.5 that may as well be 0.86 is none, and a pipeline that lets it through would let noise through. Sizes are counted
and have no interval. Silence is not a pass: a gate on something that was not measured fails, and so does one that is
to judge an interval which there is not, such as that of a single window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Literal

from secateur.contract.jobs import Verdict
from secateur.contract.results import Benchmarks, GateResult, Measurement, TaskScore
from secateur.contract.spec import Gates

Judge = Literal["interval", "median"]


@dataclass(frozen=True)
class _Reading:
    """One figure that a gate may judge."""

    metric: str
    value: float
    low: float | None = None  # 95 % interval
    high: float | None = None
    exact: bool = False  # counted, so that there is no interval to judge


@dataclass(frozen=True)
class _Gate:
    read: Callable[[Measurement], Sequence[_Reading]]  # the worst of them is judged; none: it was not measured
    least: bool  # whether the limit is the least allowed value, and not the greatest

    def judged(self, reading: _Reading, judge: Judge) -> float | None:
        """The number that is held to the limit; None where there is none to hold to it."""
        if reading.exact or judge == "median":
            return reading.value
        return reading.low if self.least else reading.high

    def worst(self, readings: Sequence[_Reading], judge: Judge) -> _Reading:
        """The reading that is nearest to failing; one without the number to be judged fails at once."""

        def goodness(reading: _Reading) -> float:
            number = self.judged(reading, judge)
            if number is None or number != number:  # not a number
                return float("-inf")
            return number if self.least else -number

        return min(readings, key=goodness)

    def holds(self, number: float, limit: float) -> bool:
        return number >= limit if self.least else number <= limit


def _speedup(variant: Measurement) -> list[_Reading]:
    """Of the first cell: that is the one a job is about, and the others show how it changes."""
    if not variant.latency or variant.latency[0].speedup is None:
        return []
    cell, ratio = variant.latency[0], variant.latency[0].speedup
    metric = f"speedup (batch {cell.batch_size}, {cell.input_tokens} + {cell.output_tokens} tokens)"
    return [_Reading(metric, ratio.median, ratio.low, ratio.high)]


def _perplexity_ratio(variant: Measurement) -> list[_Reading]:
    found = [
        _Reading(f"perplexity ratio on {p.text.description}", p.ratio, p.ratio_low, p.ratio_high)
        for p in variant.perplexity
        if p.ratio is not None
    ]
    return found if len(found) == len(variant.perplexity) else []


def _kl(variant: Measurement) -> list[_Reading]:
    return [_Reading(f"KL divergence on {f.text.description}", f.kl, f.kl_low, f.kl_high) for f in variant.fidelity]


def _agreement(variant: Measurement) -> list[_Reading]:
    return [
        _Reading(
            f"top-1 agreement on {f.text.description}", f.top1_agreement, f.top1_agreement_low, f.top1_agreement_high
        )
        for f in variant.fidelity
    ]


def _accuracy_drop(variant: Measurement) -> list[_Reading]:
    """The mean over the tasks; each counts once, by the first of its filters."""
    tasks = [task for task in variant.tasks if task.headline]
    drops = [task.drop for task in tasks if task.drop is not None]
    if not drops or len(drops) < len(tasks):
        return []
    metric = f"accuracy drop (mean of {len(drops)} task{'s' if len(drops) > 1 else ''})"
    mean = sum(drops) / len(drops)
    below, above = _mean_reach(tasks)
    if below is None or above is None:
        return [_Reading(metric, mean)]
    return [_Reading(metric, mean, mean - below, mean + above)]


def _mean_reach(tasks: Sequence[TaskScore]) -> tuple[float | None, float | None]:
    """How far the interval of the mean drop reaches below and above it.

    Items of different tasks are independent, so the reaches of the tasks add in quadrature.
    """
    below, above = [], []
    for task in tasks:
        if task.drop is None or task.drop_low is None or task.drop_high is None:
            return None, None
        below.append(max(0.0, task.drop - task.drop_low))
        above.append(max(0.0, task.drop_high - task.drop))
    return hypot(*below) / len(tasks), hypot(*above) / len(tasks)


def _parameters(variant: Measurement) -> list[_Reading]:
    return [_Reading("parameters", variant.parameters, exact=True)]


def _bytes(variant: Measurement) -> list[_Reading]:
    return [_Reading("bytes on disk", variant.bytes_on_disk, exact=True)]


_GATES: dict[str, _Gate] = {
    "min_speedup": _Gate(_speedup, least=True),
    "max_perplexity_ratio": _Gate(_perplexity_ratio, least=False),
    "max_kl": _Gate(_kl, least=False),
    "min_top1_agreement": _Gate(_agreement, least=True),
    "max_accuracy_drop": _Gate(_accuracy_drop, least=False),
    "max_parameters": _Gate(_parameters, least=False),
    "max_bytes": _Gate(_bytes, least=False),
}


def judge(gates: Gates, benchmarks: Benchmarks, *, variant: str) -> tuple[Verdict, list[GateResult]]:
    """Judge every gate that is set on `variant`, one of `benchmarks.variants`."""
    judged = next(m for m in benchmarks.variants if m.variant == variant)
    results = [
        _judge_one(name, limit, gate, gate.read(judged), gates.judge)
        for name, gate in _GATES.items()
        if (limit := getattr(gates, name)) is not None
    ]
    if not results:
        return Verdict.NONE, []
    return (Verdict.PASSED if all(result.passed for result in results) else Verdict.FAILED), results


def _judge_one(name: str, limit: float, gate: _Gate, readings: Sequence[_Reading], judge: Judge) -> GateResult:
    if not readings:
        message = f"{name}: the job did not measure what this gate needs"
        return GateResult(gate=name, metric=name, threshold=limit, value=None, passed=False, message=message)
    reading = gate.worst(readings, judge)
    number = gate.judged(reading, judge)
    passed = number is not None and gate.holds(number, limit)
    return GateResult(
        gate=name,
        metric=reading.metric,
        threshold=limit,
        value=reading.value,
        low=reading.low,
        high=reading.high,
        judged=number,
        passed=passed,
        message=_message(reading, number, limit, least=gate.least, passed=passed),
    )


def _message(reading: _Reading, number: float | None, limit: float, *, least: bool, passed: bool) -> str:
    """ "speedup (batch 1, 12 + 128 tokens) is 1.5 (0.86 to 1.6): the low end, 0.86, is below 1"."""
    interval = "" if reading.low is None or reading.high is None else f" ({reading.low:.4g} to {reading.high:.4g})"
    figure = f"{reading.metric} is {reading.value:.6g}{interval}"
    if number is None:
        return (
            f"{figure}, and too little was measured for an interval; measure more, or judge the figure itself "
            'with "judge": "median"'
        )
    relation = ("at least" if passed else "below") if least else ("at most" if passed else "above")
    if reading.exact or number == reading.value:
        return f"{figure}, {relation} {limit:.6g}"
    return f"{figure}: its {'low' if least else 'high'} end, {number:.6g}, is {relation} {limit:.6g}"
