"""JUnit XML, in the form that CI systems show as they show tests: one suite, its cases, and properties for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from secateur.report.text import one_line, printable

SUITE = "secateur.gates"


@dataclass(frozen=True)
class Case:
    """One thing that was judged."""

    name: str
    output: str
    failure: str | None = None  # why it failed, in a sentence
    skipped: str | None = None  # why it neither passed nor failed
    properties: Mapping[str, str] = field(default_factory=dict)


def document(cases: Iterable[Case], *, about: Mapping[str, str], output: str, created_at: datetime) -> str:
    """The document, which has no links. Without cases it is an empty suite.

    Args:
        about: properties of the suite.
        output: what to read of the whole.
    """
    cases = list(cases)
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.failure is not None for case in cases)),
        "errors": "0",
        "skipped": str(sum(case.skipped is not None for case in cases)),
    }
    root = ET.Element("testsuites", {"name": "secateur", **counts, "time": "0"})
    created = created_at.astimezone(UTC).isoformat(timespec="seconds")
    suite = ET.SubElement(root, "testsuite", {"name": SUITE, **counts, "time": "0", "timestamp": created})
    _properties(suite, about)
    for case in cases:
        _case(suite, case)
    ET.SubElement(suite, "system-out").text = printable(output)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, case: Case) -> None:
    element = ET.SubElement(suite, "testcase", {"classname": SUITE, "name": one_line(case.name), "time": "0"})
    _properties(element, case.properties)
    output = printable(case.output)
    if case.failure is not None:
        failure = ET.SubElement(element, "failure", {"type": "GateFailed", "message": printable(case.failure)})
        failure.text = output
    elif case.skipped is not None:
        ET.SubElement(element, "skipped", {"message": printable(case.skipped)})
    ET.SubElement(element, "system-out").text = output


def _properties(parent: ET.Element, values: Mapping[str, str]) -> None:
    properties = ET.SubElement(parent, "properties")
    for name, value in values.items():
        ET.SubElement(properties, "property", {"name": printable(name), "value": printable(value)})
