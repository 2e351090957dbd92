"""The gates as JUnit XML: a test case per gate, so that any CI shows them as it shows tests.

A failure's message is the gate's own sentence; metric, threshold, value and interval are properties of the case, and
stand in its output too, since not every CI shows properties.
"""

from __future__ import annotations

from datetime import UTC
from xml.etree import ElementTree as ET

from secateur.contract.results import GateResult, Report
from workers.reporting.text import one_line, printable

SUITE = "secateur.gates"


def render(report: Report) -> str:
    """The document. A job without gates gives a suite without cases."""
    failures = str(sum(not gate.passed for gate in report.gates))
    counts = {"tests": str(len(report.gates)), "failures": failures, "errors": "0", "skipped": "0"}
    root = ET.Element("testsuites", {"name": "secateur", **counts, "time": "0"})
    created = report.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    suite = ET.SubElement(root, "testsuite", {"name": SUITE, **counts, "time": "0", "timestamp": created})
    about = {"job_id": str(report.job_id), "model": report.model.id, "variant": report.final_variant}
    about |= {"verdict": report.verdict.value}
    about |= {f"label.{name}": str(value) for name, value in (report.spec.get("labels") or {}).items()}
    _properties(suite, about)
    for gate in report.gates:
        _case(suite, gate)
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
    known = {
        name: figure if isinstance(figure, str) else f"{figure:.10g}"
        for name, figure in figures.items()
        if figure is not None
    }
    _properties(case, known)
    details = "\n".join(f"{name}: {printable(figure)}" for name, figure in known.items())
    message = printable(gate.message)
    if not gate.passed:
        failure = ET.SubElement(case, "failure", {"type": "GateFailed", "message": message})
        failure.text = f"{message}\n{details}"
    ET.SubElement(case, "system-out").text = f"{message}\n{details}"


def _properties(parent: ET.Element, values: dict[str, str]) -> None:
    properties = ET.SubElement(parent, "properties")
    for name, value in values.items():
        ET.SubElement(properties, "property", {"name": printable(name), "value": printable(value)})
