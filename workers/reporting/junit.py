"""The gates as JUnit XML: a test case per gate, so that any CI shows them as it shows tests.

A failure's message is the gate's own sentence, which stands in the case's output too, with the limit and what was
measured. The suite's output is the verdict in words, with what to mind when reading it. A case's properties are for
programs: metric, threshold, value and interval as numbers, not rounded.
"""

from __future__ import annotations

from datetime import UTC
from xml.etree import ElementTree as ET

from secateur.contract.report import GateResult, Report
from secateur.report.gates import interval_in_words, limit_in_words, value_in_words, verdict_in_words
from secateur.report.text import one_line, printable

SUITE = "secateur.gates"


def render(report: Report, *, public_url: str | None = None) -> str:
    """The document, which has no links. A job without gates gives a suite without cases."""
    failures = str(sum(not gate.passed for gate in report.gates))
    counts = {"tests": str(len(report.gates)), "failures": failures, "errors": "0", "skipped": "0"}
    root = ET.Element("testsuites", {"name": "secateur", **counts, "time": "0"})
    created = report.created_at.astimezone(UTC).isoformat(timespec="seconds")
    suite = ET.SubElement(root, "testsuite", {"name": SUITE, **counts, "time": "0", "timestamp": created})
    about = {"job_id": str(report.job_id), "model": report.model.id, "variant": report.final_variant}
    about |= {"verdict": report.verdict.value, "verdict_in_words": verdict_in_words(report)}
    about |= {f"label.{name}": str(value) for name, value in (report.spec.get("labels") or {}).items()}
    _properties(suite, about)
    for gate in report.gates:
        _case(suite, gate)
    notes = "".join(f"\nnote: {printable(note)}" for note in report.notes)
    ET.SubElement(suite, "system-out").text = f"{verdict_in_words(report)}{notes}"
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, gate: GateResult) -> None:
    case = ET.SubElement(suite, "testcase", {"classname": SUITE, "name": one_line(gate.gate), "time": "0"})
    figures: dict[str, str | float | None] = {
        "metric": gate.metric,
        "threshold": gate.threshold,
        "value": gate.value,
        "low": gate.low,
        "high": gate.high,
        "judged": gate.judged,
    }
    _properties(case, {name: _exact(figure) for name, figure in figures.items() if figure is not None})
    interval = interval_in_words(gate)
    measured = f"{value_in_words(gate)} ({interval})" if interval else value_in_words(gate)
    message = printable(gate.message)
    output = f"{message}\nlimit: {limit_in_words(gate)}\nmeasured: {measured}"
    if not gate.passed:
        ET.SubElement(case, "failure", {"type": "GateFailed", "message": message}).text = output
    ET.SubElement(case, "system-out").text = output


def _exact(figure: str | float) -> str:
    """For programs: every digit, and no point after a count."""
    return str(int(figure)) if isinstance(figure, float) and figure.is_integer() else str(figure)


def _properties(parent: ET.Element, values: dict[str, str]) -> None:
    properties = ET.SubElement(parent, "properties")
    for name, value in values.items():
        ET.SubElement(properties, "property", {"name": printable(name), "value": printable(value)})
