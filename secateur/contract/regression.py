"""A result held against an earlier job's: by how much each figure is worse, with an interval, and whether it may be.

The two were measured apart, each with an interval of its own, and that of the difference is made of both by the method
of variance estimates recovery (Zou and Donner 2008, Statistics in Medicine 27: 1693): of a − b it reaches down to
a − b − √((a − low a)² + (high b − b)²), and up likewise. Of shares the same is done with logarithms. Both jobs measure
the same items, which makes the real interval narrower, so the test errs on the safe side. As with other gates, the
worse end is held to the limit, unless the figure itself is to be judged; and silence is not a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import expm1, hypot, inf, isfinite, isnan, log

from secateur.contract import numbers as n
from secateur.contract.comparison import Readings, readings_of, why_not_compared
from secateur.contract.gates import Judge
from secateur.contract.intervals import Estimate, mean_of
from secateur.contract.metric_row import DROP, RATIO, Metric, uncapitalised
from secateur.contract.metrics import METRICS
from secateur.contract.options.baseline import Baseline
from secateur.contract.readings import Reading
from secateur.contract.report import GateResult, Report

GATE = "max_regression."  # and the figure's name
_DECIMALS = 12
_EXPONENT = 700.0  # beyond which a float overflows


@dataclass(frozen=True)
class _Worse:
    """By how much one reading is worse than another: below 0 where it is better."""

    by: Estimate
    mine: Reading
    theirs: Reading


def judge_regressions(baseline: Baseline, judge: Judge, report: Report, earlier: Report | None) -> list[GateResult]:
    """One gate for each figure of `baseline.max_regression`.

    Args:
        earlier: the report of the job that `baseline` names; None where there is none any more.
    """
    return [
        _judge_one(name, limit, judge, baseline, report, earlier) for name, limit in baseline.max_regression.items()
    ]


def figure_of(gate: str) -> Metric | None:
    """The figure of a gate of these; None of any other gate."""
    return METRICS.get(gate.removeprefix(GATE)) if gate.startswith(GATE) else None


def regression_format(metric: Metric) -> n.Format:
    """How it is written by how much this figure is worse."""
    return n.POINTS if in_points(metric) else n.PERCENT


def in_points(metric: Metric) -> bool:
    """Whether the difference counts, since the figure is a share itself; of others, the difference's share."""
    return metric.format is n.PERCENT


def worse_in_words(metric: Metric, value: float) -> str:
    """ "3.70 % worse", "0.4 points better", "neither better nor worse"."""
    if value == 0:
        return "neither better nor worse"
    return f"{regression_format(metric).write(abs(value))} {'worse' if value > 0 else 'better'}"


def _judge_one(
    name: str, limit: float, judge: Judge, baseline: Baseline, report: Report, earlier: Report | None
) -> GateResult:
    metric, gate = METRICS[name], f"{GATE}{name}"

    def failed(message: str) -> GateResult:
        return GateResult(gate=gate, metric=metric.title, threshold=limit, value=None, passed=False, message=message)

    if earlier is None:
        return failed(f"{gate}: there is no job with {baseline.in_words} to hold this one against")
    found = _compared(metric, report, earlier)
    if isinstance(found, str):
        return failed(f"{uncapitalised(metric.title)} cannot be held against job {earlier.job_id}: {found}")
    worse = _mean(found) if metric.several == "mean" else max(found, key=lambda one: _judged(metric, judge, one.by))
    number = _judged(metric, judge, worse.by)
    several = metric.several == "mean" and len(found) > 1
    words = uncapitalised(metric.title) + (f" (mean of {len(found)})" if several else worse.mine.subject.phrase)
    passed = number <= limit
    held = f" and was {metric.format.write(worse.theirs.value)} in job {earlier.job_id}"
    figures = "" if several else f" is {metric.format.write(worse.mine.value)}{held}:"
    where = f" than in job {earlier.job_id}" if several else ""
    return GateResult(
        gate=gate,
        metric=words,
        threshold=limit,
        value=_finite(worse.by.value),
        low=None if metric.exact else _finite(worse.by.low),
        high=None if metric.exact else _finite(worse.by.high),
        judged=_finite(number),
        passed=passed,
        message=f"{words}{figures} {_in_words(metric, worse.by, number, limit, where)}",
    )


def _judged(metric: Metric, judge: Judge, by: Estimate) -> float:
    """What is held to the limit; no limit is as great as what there is no number for."""
    number = by.value if judge == "median" or metric.exact else by.high
    return inf if number is None or isnan(number) else number


def _in_words(metric: Metric, by: Estimate, number: float, limit: float, where: str) -> str:
    """ "3.70 % worse (1.20 to 6.10 %), of which the worse end is above 5 %"."""
    form = regression_format(metric)
    most = f"at most {form.typed(limit)}" if number <= limit else f"above {form.typed(limit)}"
    if not isfinite(by.value):
        return f"worse than any share of that{where}"
    said = f"{worse_in_words(metric, by.value)}{where}"
    if number == by.value:
        return f"{said}, {most}"
    if by.low is None or by.high is None or not isfinite(by.high):
        return (
            f"{said}, and too little was measured for an interval; measure more, or judge the figure itself with "
            '"judge": "median"'
        )
    return f"{said} ({form.span(by.low, by.high)}): the worse end, {form.apart(number, limit)}, is {most}"


def _compared(metric: Metric, report: Report, earlier: Report) -> list[_Worse] | str:
    """Each reading that counts against the same of the earlier job; or why these cannot be compared, in words."""
    mine, theirs = (_counting(metric, one) for one in (report, earlier))
    if not mine:
        return "this job did not measure it"
    if not theirs:
        return "that job did not measure it"
    keys = list(mine)[:1] if metric.several == "first" else list(dict.fromkeys([*mine, *theirs]))
    same_original = report.model.fingerprint == earlier.model.fingerprint
    found = []
    for key in keys:
        one, other = mine.get(key), theirs.get(key)
        if one is None or other is None:
            phrase = (one or theirs[key]).subject.phrase.strip(" ()")
            return f"{'this' if one is None else 'that'} job did not measure it {phrase}".rstrip()
        if why := why_not_compared(metric, one, other, (report, earlier)):
            return why
        found.append(_worse(metric, one, other, same_original=same_original))
    return found


def _counting(metric: Metric, report: Report) -> Readings:
    return {key: reading for key, reading in readings_of(metric, report).items() if reading.counts}


def _worse(metric: Metric, mine: Reading, theirs: Reading, *, same_original: bool) -> _Worse:
    """Of what was measured in pairs with the same original, the comparisons with it are held against each other."""
    one, other = _bounds(metric, mine), _bounds(metric, theirs)
    higher = metric.better == "higher"
    if same_original and metric.compares in (DROP, RATIO) and mine.compared and theirs.compared:
        one, other, higher = mine.compared, theirs.compared, False  # losses and ratios: the less the better
    by = _difference(one, other) if in_points(metric) else _growth(one, other)
    by = _each(by, lambda end: round(end, _DECIMALS))  # 105 is 5 % more than 100, and not a float's noise more
    return _Worse(_negated(by) if higher else by, mine, theirs)


def _bounds(metric: Metric, reading: Reading) -> Estimate:
    """What was counted is what it is."""
    if metric.exact:
        return Estimate(reading.value, reading.value, reading.value)
    return Estimate(reading.value, reading.low, reading.high)


def _mean(found: Sequence[_Worse]) -> _Worse:
    """Over tasks."""
    return replace(found[0], by=mean_of([one.by for one in found]))


def _difference(one: Estimate, other: Estimate) -> Estimate:
    """`one` less `other`; without an interval where either has none."""
    value = _less(one.value, other.value)
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Estimate(value)
    below = hypot(_less(one.value, one.low), _less(other.high, other.value))
    above = hypot(_less(one.high, one.value), _less(other.value, other.low))
    return Estimate(value, value - below, value + above)


def _growth(one: Estimate, other: Estimate) -> Estimate:
    """By which share `one` is greater than `other`."""
    return _each(_difference(_each(one, _logarithm), _each(other, _logarithm)), _share)


def _each(of: Estimate, change: Callable[[float], float]) -> Estimate:
    """The value and the ends of its interval, changed."""
    low, high = (None if end is None else change(end) for end in (of.low, of.high))
    return Estimate(change(of.value), low, high)


def _logarithm(value: float) -> float:
    return log(value) if value > 0 else -inf


def _share(growth: float) -> float:
    return inf if growth > _EXPONENT else expm1(growth)


def _less(one: float, other: float) -> float:
    return 0.0 if one == other else one - other


def _negated(of: Estimate) -> Estimate:
    return Estimate(-of.value, None if of.high is None else -of.high, None if of.low is None else -of.low)


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
