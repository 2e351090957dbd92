"""The reports of a sweep's jobs → the sweep's report, by a pair of metrics.

Points are compared where they measured the same thing in the same way, as two jobs are (`comparison.py`): the same
original, the same text by the same protocol, and for times and memory the same machine. Where a few did not, they stand
apart, and the others are held against each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

from secateur.contract.comparison import machine_of
from secateur.contract.intervals import Estimate
from secateur.contract.jobs import State, Verdict
from secateur.contract.metric_row import Metric, uncapitalised
from secateur.contract.metrics import METRICS, SPEEDUP
from secateur.contract.options.gates import GATES
from secateur.contract.pareto import Dominated, Pair, apart, dominated
from secateur.contract.readings import Variant, variants_of
from secateur.contract.regression import figure_of
from secateur.contract.report import Report
from secateur.contract.sweep_report import Axis, Figure, PointResult, Standing, TimedCell


@dataclass(frozen=True)
class PointSoFar:
    """A point's job as it stands, with its report if it has one."""

    place: int
    changes: Mapping[str, Any]
    job_id: Any
    state: State
    problem: str  # why it failed, in a sentence; empty otherwise
    report: Report | None

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """What a gate would judge of the final variant, for every metric that has it."""
        return {} if self.report is None else _figures(self.report)


def usual_pair(points: Sequence[PointSoFar]) -> tuple[str, str]:
    """The metrics that points are compared by unless others are asked for: what is sought against what it costs.

    Speedup against KL divergence, where these were measured, and else the first figures of their kind that were.
    """
    there = [metric for name, metric in METRICS.items() if any(name in point.figures for point in points)]
    x = next((metric for metric in there if metric.sought), next(metric for metric in there if metric.headline))
    rest = [metric for metric in there if metric is not x]
    return x.name, next((m for m in rest if m.section.quality), next(m for m in rest if m.headline)).name


def axis_of(metric: Metric) -> Axis:
    return Axis(metric=metric.name, label=metric.label, higher_is_better=metric.judged_higher)


def point_results(points: Sequence[PointSoFar], x: Metric, y: Metric) -> list[PointResult]:
    """Each point with its figures, and how it stands among the others by these two."""
    figures = {point.place: point.figures for point in points}
    measured, usual = _measured(points, (x, y))
    pairs = [
        Pair(place, _estimate(figures[place][x.name]), _estimate(figures[place][y.name]))
        for place, how in measured.items()
        if how == usual
    ]
    worse = dominated(pairs, higher=(x.judged_higher, y.judged_higher))
    timed = _timed(points)
    return [_result(point, measured, usual, worse, (x, y), timed.get(point.place, [])) for point in points]


def _measured(points: Sequence[PointSoFar], metrics: Sequence[Metric]) -> tuple[dict[int, _How], _How | None]:
    """How each point that has these figures was measured, and how most were."""
    names = {metric.name for metric in metrics}
    found = {
        point.place: _how_measured(point.report, metrics)
        for point in points
        if point.report is not None and names <= point.figures.keys()
    }
    return found, next(iter(Counter(found.values()).most_common(1)), (None, 0))[0]


def _timed(points: Sequence[PointSoFar]) -> dict[int, list[TimedCell]]:
    """The cells of each point that was timed as most were: on the same machine, and in the same cells."""
    measured, usual = _measured(points, (SPEEDUP,))
    return {
        point.place: _cells(point.report)
        for point in points
        if point.report is not None and usual is not None and measured.get(point.place) == usual
    }


def _cells(report: Report) -> list[TimedCell]:
    original, final = variants_of(report)[0].measured, _final(report).measured
    before = {(cell.batch_size, cell.output_tokens): cell.seconds.median for cell in original.latency}
    return [
        TimedCell(
            batch_size=cell.batch_size,
            input_tokens=cell.input_tokens,
            output_tokens=cell.output_tokens,
            seconds=cell.seconds,
            tokens_per_second=cell.tokens_per_second,
            original_seconds=before[cell.batch_size, cell.output_tokens],
            speedup=cell.speedup,
        )
        for cell in final.latency
        if cell.speedup is not None
    ]


def _result(
    point: PointSoFar,
    measured: Mapping[int, _How],
    usual: _How | None,
    worse: Mapping[int, Dominated],
    axes: tuple[Metric, Metric],
    cells: list[TimedCell],
) -> PointResult:
    by = worse.get(point.place)
    standing: Standing = "dominated" if by else "front"
    note = ""
    if point.report is None:
        standing, note = "no result", point.problem or f"its job is {point.state.value}"
    elif point.place not in measured:
        missing = [metric for metric in axes if metric.name not in point.figures]
        standing, note = "unmeasured", f"{' and '.join(uncapitalised(m.label) for m in missing)} was not measured"
    elif usual is not None and measured[point.place] != usual:
        standing, note = "apart", measured[point.place].unlike(usual)
    return PointResult(
        place=point.place,
        changes=dict(point.changes),
        job_id=point.job_id,
        state=point.state,
        verdict=point.report.verdict if point.report else Verdict.NONE,
        figures=point.figures,
        cells=cells,
        gates=point.report.gates if point.report else [],
        standing=standing,
        dominated_by=by.by if by else None,
        shown=by.shown if by else None,
        note=note,
    )


def _figures(report: Report) -> dict[str, Figure]:
    final = _final(report)
    found: dict[str, Figure] = {}
    for metric in METRICS.values():
        judged = metric.judged(final)
        if judged and isfinite((worst := metric.worst(judged)).value):
            found[metric.name] = Figure(value=worst.value, low=worst.low, high=worst.high, of=worst.metric)
    return found


def _final(report: Report) -> Variant:
    return next(variant for variant in variants_of(report) if variant.name == report.final_variant)


@dataclass(frozen=True)
class _How:
    """How a point was measured: two that have this in common can be compared."""

    original: str
    machine: str  # empty where it does not matter
    subjects: tuple[object, ...]

    def unlike(self, usual: _How) -> str:
        if self.original != usual.original:
            return "it began with another model than most points"
        if self.machine != usual.machine:
            return f"it was measured on another machine than most points: {self.machine}"
        return "it was measured on something else than most points, or in another way"


def _how_measured(report: Report, metrics: Sequence[Metric]) -> _How:
    final = _final(report)
    of_machine = any(metric.section.of_machine for metric in metrics)
    return _How(
        report.model.fingerprint,
        machine_of(report) if of_machine else "",
        tuple(
            (metric.name, reading.subject.key, reading.subject.protocol)
            for metric in metrics
            for reading in metric.read(final)
            if reading.counts
        ),
    )


def _estimate(figure: Figure) -> Estimate:
    return Estimate(figure.value, figure.low, figure.high)


def front_of(points: Sequence[PointResult], x: Metric) -> list[int]:
    """From the worst x to the best."""
    front = [point for point in points if point.standing == "front"]
    return [
        point.place
        for point in sorted(front, key=lambda point: point.figures[x.name].value, reverse=not x.judged_higher)
    ]


def recommend(points: Sequence[PointResult], gates: Mapping[str, Any], x: Metric, y: Metric) -> tuple[int | None, str]:
    """The best point under the gates, and why; none where nothing says what is good enough.

    Gates on quality say how much may be lost, so among the points that keep them the one that gains most is best. Gates
    on speed and size alone say how much is to be gained, and then the one that loses least is.
    """
    asked = [metric for name, metric in GATES.items() if gates.get(name) is not None]
    asked += [figure for point in points for gate in point.gates if (figure := figure_of(gate.gate))]
    if not asked:
        return None, "No gates were set, so nothing says how much quality may be lost: choose from the front."
    judged = [point for point in points if point.gates]
    if not judged:
        return None, "No point has been judged."
    passed = [point for point in judged if point.verdict is Verdict.PASSED]
    if not passed:
        return None, _none_passes(judged)
    best_by, other = (x, y) if any(metric.section.quality for metric in asked) else (y, x)
    ranked = [point for point in passed if point.standing in ("front", "dominated")]
    if not ranked:
        return None, f"{_count(passed)} all gates, and none can be ranked by {uncapitalised(best_by.label)}."

    def goodness(point: PointResult) -> tuple[float, float]:
        one, two = (
            point.figures[metric.name].value * (1 if metric.judged_higher else -1) for metric in (best_by, other)
        )
        return one, two

    best = max(ranked, key=goodness)
    why = (
        f"{_count(passed)} all gates, and point {best.place} has the best {uncapitalised(best_by.label)} of them, "
        f"{_written(best_by, best)}, at {uncapitalised(other.label)} {_written(other, best)}."
    )
    estimate = _estimate(best.figures[best_by.name])
    near = [
        point.place
        for point in ranked
        if point is not best and not apart(estimate, _estimate(point.figures[best_by.name]))
    ]
    if near:
        numbers = ", ".join(map(str, near))
        why += f" Within the intervals of it: {'point' if len(near) == 1 else 'points'} {numbers}."
    return best.place, why


def _count(passed: Sequence[PointResult]) -> str:
    return "1 point passes" if len(passed) == 1 else f"{len(passed)} points pass"


def _none_passes(judged: Sequence[PointResult]) -> str:
    failed = Counter(gate.gate for point in judged for gate in point.gates if not gate.passed)
    each = ", ".join(f"`{name}` fails at {count}" for name, count in failed.most_common())
    return f"None of {len(judged)} judged points passes all gates: {each}."


def _written(metric: Metric, point: PointResult) -> str:
    figure = point.figures[metric.name]
    interval = metric.judged_format.span(figure.low, figure.high)
    return metric.judged_format.write(figure.value) + (f" ({interval})" if interval else "")
