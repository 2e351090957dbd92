"""Measurements and gates → a verdict, each gate with its number.

A gate judges the safe side of its figure's interval unless it is told to judge the figure itself (`judge`): a speedup
of 1.5 that may as well be 0.86 is none, and a pipeline that lets it through would let noise through. Told to judge the
figure, or with a limit below 1, it lets such a one pass and says that no speedup was shown. Sizes are counted and have
no interval. Silence is not a pass: a gate on something that was not measured fails, and so does one that is to judge
an interval which there is not, such as that of a single window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from secateur.contract.jobs import Verdict
from secateur.contract.measurements import Benchmarks
from secateur.contract.metric_row import Judged, Metric
from secateur.contract.options.gates import GATES, Gates, is_least
from secateur.contract.readings import Variant
from secateur.contract.report import GateResult

Judge = Literal["interval", "median"]


@dataclass(frozen=True)
class _Gate:
    name: str
    limit: float
    judge: Judge

    @property
    def metric(self) -> Metric:
        return GATES[self.name]

    @property
    def least(self) -> bool:
        return is_least(self.name)

    def number(self, reading: Judged) -> float | None:
        """The number that is held to the limit; None where there is none to hold to it."""
        if self.metric.exact or self.judge == "median":
            return reading.value
        return reading.low if self.least else reading.high

    def worst(self, readings: Sequence[Judged]) -> Judged:
        """The reading that is nearest to failing; one without the number to be judged fails at once."""

        def goodness(reading: Judged) -> float:
            number = self.number(reading)
            if number is None or number != number:  # not a number
                return float("-inf")
            return number if self.least else -number

        return min(readings, key=goodness)

    def holds(self, number: float) -> bool:
        return number >= self.limit if self.least else number <= self.limit


def judge(gates: Gates, benchmarks: Benchmarks, *, variant: str) -> tuple[Verdict, list[GateResult]]:
    """Judge every gate that is set on `variant`, one of `benchmarks.variants`."""
    judged = Variant(next(m for m in benchmarks.variants if m.variant == variant))
    results = [
        _judge_one(_Gate(name, limit, gates.judge), metric.judged(judged))
        for name, metric in GATES.items()
        if (limit := getattr(gates, name)) is not None
    ]
    if not results:
        return Verdict.NONE, []
    return (Verdict.PASSED if all(result.passed for result in results) else Verdict.FAILED), results


def _judge_one(gate: _Gate, readings: Sequence[Judged]) -> GateResult:
    if not readings:
        message = f"{gate.name}: the job did not measure what this gate needs"
        return GateResult(
            gate=gate.name, metric=gate.name, threshold=gate.limit, value=None, passed=False, message=message
        )
    reading = gate.worst(readings)
    number = gate.number(reading)
    passed = number is not None and gate.holds(number)
    return GateResult(
        gate=gate.name,
        metric=reading.metric,
        threshold=gate.limit,
        value=reading.value,
        low=reading.low,
        high=reading.high,
        judged=number,
        passed=passed,
        message=_message(gate, reading, number, passed=passed),
    )


def _message(gate: _Gate, reading: Judged, number: float | None, *, passed: bool) -> str:
    """ "speedup (batch 1, 12 + 128 tokens) is 1.50× (0.860 to 1.60): its low end, 0.860×, is below 1×"."""
    written = gate.metric.judged_format
    interval = written.span(reading.low, reading.high)
    about = f" ({interval})" if interval else ""
    if number is None:
        return (
            f"{reading.metric} is {written.write(reading.value)}{about}, and too little was measured for an interval; "
            'measure more, or judge the figure itself with "judge": "median"'
        )
    relation = ("at least" if passed else "below") if gate.least else ("at most" if passed else "above")
    exactly, limit = written.apart(number, gate.limit), written.typed(gate.limit)
    unshown = f"; {_unshown(gate.metric)}" if passed and gate.metric.unshown(reading.low, reading.high) else ""
    if gate.metric.exact or number == reading.value:
        return f"{reading.metric} is {exactly}{about}, {relation} {limit}{unshown}"
    end = "low" if gate.least else "high"
    whole = f"{reading.metric} is {written.write(reading.value)}{about}"
    return f"{whole}: its {end} end, {exactly}, is {relation} {limit}{unshown}"


def _unshown(metric: Metric) -> str:
    """ "no speedup was shown, since the interval holds 1×"."""
    assert metric.at_original is not None, "such as can be unshown have it"
    return f"no {metric.sought} was shown, since the interval holds {metric.judged_format.typed(metric.at_original)}"
