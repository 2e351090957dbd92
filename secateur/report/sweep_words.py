"""What a sweep's report says in words, the same in every form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from secateur.contract.jobs import State, Verdict
from secateur.contract.numbers import duration
from secateur.contract.options.gates import GATES
from secateur.contract.stage_kinds import STAGE_KINDS
from secateur.contract.sweep_report import PointResult, Shared, SweepReport
from secateur.contract.sweep_results import PointSoFar
from secateur.report.text import listed, plural


def verdict_in_words(report: SweepReport) -> str:
    """ "Point 2 passes all gates and is recommended", "No point passes all gates", "No gates were set"."""
    if report.recommended is not None:
        words = f"Point {report.recommended} passes all gates, and is the best that does"
        return words if report.state.terminal else f"{words} so far"
    if not any(report.gates.get(name) is not None for name in GATES):
        return "No gates were set"
    if any(point.verdict is Verdict.PASSED for point in report.points):
        return "Points pass all gates, and none is recommended"
    return "No point passes all gates" if report.state.terminal else "No point passes all gates so far"


def counted(report: SweepReport) -> str:
    """ "12 points: 11 succeeded, 1 failed"."""
    states = [point.state for point in report.points]
    parts = [f"{states.count(state)} {state.value}" for state in State if state in states]
    return f"{plural(len(states), 'point')}: {', '.join(parts)}"


def saved_in_words(report: SweepReport) -> str:
    """ "27 of 60 stages were taken over and not computed again, which saved 2 h 07 min"."""
    over = sum(kind.taken_over for kind in report.shared)
    whole = over + sum(kind.computed for kind in report.shared)
    if not over:
        return f"All {plural(whole, 'stage')} were computed; none could be taken over."
    saved = f", which saved {duration(report.seconds_saved)}" if report.seconds_saved >= 0.1 else ""
    return f"{over} of {plural(whole, 'stage')} were taken over and not computed again{saved}."


def kind_title(shared: Shared) -> str:
    return STAGE_KINDS[shared.kind].title if shared.kind in STAGE_KINDS else shared.kind


def notes_of(so_far: Sequence[PointSoFar], points: Sequence[PointResult], gates: Mapping[str, Any]) -> list[str]:
    """What to mind, the weightiest first."""
    return [*_unfinished(so_far), *_without_result(points), *_apart(points), *_unjudged(gates), *_taken_over(so_far)]


def _unfinished(so_far: Sequence[PointSoFar]) -> Iterator[str]:
    over = sum(point.state.terminal for point in so_far)
    if over < len(so_far):
        yield f"{over} of {plural(len(so_far), 'point')} are over; this is what they have found so far."


def _without_result(points: Sequence[PointResult]) -> Iterator[str]:
    for state in (State.FAILED, State.CANCELLED):
        places = [point.place for point in points if point.state is state]
        if places:
            verb = "has failed" if len(places) == 1 else "have failed"
            yield f"{_named(places)} {verb if state is State.FAILED else 'did not run to the end'}, and can be retried."


def _apart(points: Sequence[PointResult]) -> Iterator[str]:
    notes: dict[str, list[int]] = {}
    for point in points:
        if point.standing in ("apart", "unmeasured"):
            notes.setdefault(point.note, []).append(point.place)
    for note, places in notes.items():
        yield f"{_named(places)} cannot be held against the others: {note}."


def _unjudged(gates: Mapping[str, Any]) -> Iterator[str]:
    asked = [name for name in GATES if gates.get(name) is not None]
    if asked and not any(GATES[name].section.quality for name in asked):
        names = listed([f"`{name}`" for name in asked])
        yield (
            f"Quality is not judged: the gates ({names}) are on speed and size, and a model that is good for nothing "
            "may pass them."
        )


def _taken_over(so_far: Sequence[PointSoFar]) -> Iterator[str]:
    places = [
        point.place
        for point in so_far
        if point.report and point.report.benchmarks.job_id not in (None, point.report.job_id)
    ]
    if places:
        yield (
            f"All figures of {_named(places).lower()} were taken over from jobs that had measured the same; the report "
            "of each says from which and when."
        )


def _named(places: Sequence[int]) -> str:
    return f"Point {places[0]}" if len(places) == 1 else f"Points {listed(list(map(str, places)))}"
