"""A sweep's verdict as JUnit XML, for the pipeline that waits for it.

A sweep passes where a point passes all gates. So the one case that can fail is that of the sweep; a point that does
not pass is a case that was skipped, with the reason, since it fails nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from secateur.contract.jobs import Verdict
from secateur.contract.sweep import words_among
from secateur.contract.sweep_report import PointResult, SweepReport
from secateur.report.junit_text import Case, document
from secateur.report.sweep_words import counted, verdict_in_words


def render(report: SweepReport, *, public_url: str | None = None) -> str:
    """The document, which has no links. Without gates it is a suite without cases."""
    about = {"sweep_id": str(report.sweep_id), "model": report.model, "verdict": report.verdict.value}
    about |= {"verdict_in_words": verdict_in_words(report), "x": report.x.metric, "y": report.y.metric}
    if report.recommended is not None:
        about["recommended_job_id"] = str(report.point(report.recommended).job_id)
    about |= {f"label.{name}": value for name, value in report.labels.items()}
    lines = [verdict_in_words(report), report.why, counted(report), *(f"note: {note}" for note in report.notes)]
    return document(_cases(report), about=about, output="\n".join(lines), created_at=report.created_at)


def _cases(report: SweepReport) -> Iterator[Case]:
    if report.verdict is Verdict.NONE and report.state.terminal:
        return
    passed = report.verdict is Verdict.PASSED
    over = report.state.terminal
    yield Case(
        name="a point passes all gates",
        output=report.why,
        failure=report.why if over and not passed else None,
        skipped=None if over or passed else "points are not over yet",
    )
    for point, words in zip(report.points, words_among([point.changes for point in report.points]), strict=True):
        yield _case(point, words)


def _case(point: PointResult, words: str) -> Case:
    failed = [gate.message for gate in point.gates if not gate.passed]
    why = "; ".join(failed) or point.note or f"the job is {point.state.value}"
    passed = point.verdict is Verdict.PASSED
    return Case(
        name=f"point {point.place}: {words}",
        output="\n".join(gate.message for gate in point.gates) or why,
        skipped=None if passed else why,
        properties={
            "job_id": str(point.job_id),
            "state": point.state.value,
            "verdict": point.verdict.value,
            **{name: repr(figure.value) for name, figure in point.figures.items()},
        },
    )
