"""The gates as JUnit XML: a test case per gate, so that any CI shows them as it shows tests.

A failure's message is the gate's own sentence, which stands in the case's output too, with the limit and what was
measured. The suite's output is the verdict in words, with what to mind when reading it. A case's properties are for
programs: metric, threshold, value and interval as numbers, not rounded.
"""

from __future__ import annotations

from secateur.contract.report import GateResult, Report
from secateur.report.gates import interval_in_words, limit_in_words, value_in_words, verdict_in_words
from secateur.report.junit_text import Case, document
from secateur.report.text import printable


def render(report: Report, *, public_url: str | None = None) -> str:
    """The document, which has no links. A job without gates gives a suite without cases."""
    about = {"job_id": str(report.job_id), "model": report.model.id, "variant": report.final_variant}
    about |= {"verdict": report.verdict.value, "verdict_in_words": verdict_in_words(report)}
    about |= {f"label.{name}": str(value) for name, value in (report.spec.get("labels") or {}).items()}
    notes = "".join(f"\nnote: {printable(note)}" for note in report.notes)
    return document(
        (_case(gate) for gate in report.gates),
        about=about,
        output=f"{verdict_in_words(report)}{notes}",
        created_at=report.created_at,
    )


def _case(gate: GateResult) -> Case:
    figures: dict[str, str | float | None] = {
        "metric": gate.metric,
        "threshold": gate.threshold,
        "value": gate.value,
        "low": gate.low,
        "high": gate.high,
        "judged": gate.judged,
    }
    interval = interval_in_words(gate)
    measured = f"{value_in_words(gate)} ({interval})" if interval else value_in_words(gate)
    return Case(
        name=gate.gate,
        output=f"{printable(gate.message)}\nlimit: {limit_in_words(gate)}\nmeasured: {measured}",
        failure=None if gate.passed else gate.message,
        properties={name: _exact(figure) for name, figure in figures.items() if figure is not None},
    )


def _exact(figure: str | float) -> str:
    """For programs: every digit, and no point after a count."""
    return str(int(figure)) if isinstance(figure, float) and figure.is_integer() else str(figure)
