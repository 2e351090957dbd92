"""A test case per gate, in the form that CI systems read."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree as ET

from secateur.contract.report import Report
from workers.reporting import junit

MakeReport = Callable[..., Report]


def parsed(report: Report) -> ET.Element:
    return ET.fromstring(junit.render(report).encode())


def properties(element: ET.Element) -> dict[str | None, str | None]:
    return {p.get("name"): p.get("value") for p in element.findall("properties/property")}


def test_a_case_per_gate(report: Report) -> None:
    root = parsed(report)
    assert (root.tag, root.get("tests"), root.get("failures")) == ("testsuites", "4", "1")
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "0")
    assert suite.get("timestamp") == "2026-11-24T18:00:00+00:00"
    assert properties(suite)["label.commit"] == "abc123"
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == ["min_speedup", "max_kl", "min_top1_agreement", "max_parameters"]
    assert properties(cases[0]) == {
        "metric": "speedup (batch 1, 12 + 128 tokens)",
        "threshold": "1.2",
        "value": repr(26.5 / 21.4),
        "low": repr(26.5 / 21.4 - 0.03),
        "high": repr(26.5 / 21.4 + 0.03),
        "judged": repr(26.5 / 21.4 - 0.03),
    }
    failure = cases[1].find("failure")
    assert failure is not None
    assert failure.get("message") == report.gates[1].message
    assert cases[0].find("failure") is None


def test_no_gates_no_cases(make_report: MakeReport) -> None:
    root = parsed(make_report(gates={}))
    assert root.get("tests") == "0"
    assert root.findall("testsuite/testcase") == []


def test_what_was_not_measured_fails_without_a_value(make_report: MakeReport, report: Report) -> None:
    variants = [m.model_copy(update={"latency": []}) for m in report.benchmarks.variants]
    benchmarks = report.benchmarks.model_copy(update={"variants": variants})
    case = parsed(make_report(benchmarks=benchmarks, gates={"min_speedup": 1.1})).find("testsuite/testcase")
    assert case is not None
    assert case.find("failure") is not None
    assert "value" not in properties(case)


def test_characters_that_xml_forbids(make_report: MakeReport, report: Report) -> None:
    model = report.model.model_copy(update={"id": 'a\x00\ud800<b attr="\'">&\u202e'})
    root = parsed(make_report(pruned=report.pruned.model_copy(update={"model": model})))
    suite = root.find("testsuite")
    assert suite is not None
    assert properties(suite)["model"] == 'a\ufffd\ufffd<b attr="\'">&\ufffd'
