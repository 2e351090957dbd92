"""A pass that says little says so where people look first, in every form of the report."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from secateur.cli.render import gates_table
from secateur.cli.render_report import report_lines
from secateur.contract.measurements import Interval
from secateur.contract.options.gates import GATES
from secateur.contract.report import Report
from secateur.report.gates import quality_was_judged, result_in_words, verdict_in_words
from workers.reporting import html, junit, markdown

MakeReport = Callable[..., Report]

SPEED = {"min_speedup": 1.2, "max_parameters": 120_000_000}
UNJUDGED = "All 2 gates passed, but quality was not judged"
BOTH = "The gate passed, but quality was not judged and no speedup was shown"


def slower(report: Report) -> Any:
    """The benchmarks with a speedup of the final variant that may be none."""
    final = report.benchmarks.variants[-1]
    cells = [c.model_copy(update={"speedup": Interval(median=1.1, low=0.98, high=1.2)}) for c in final.latency]
    variants = [*report.benchmarks.variants[:-1], final.model_copy(update={"latency": cells})]
    return report.benchmarks.model_copy(update={"variants": variants})


def on_terminal(*lines: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    for line in lines:
        console.print(line)
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()


def headings(report: Report) -> dict[str, str]:
    """What stands at the head of each form."""
    suite = ET.fromstring(junit.render(report).encode()).find("testsuite")
    assert suite is not None
    page = html.render(report)
    return {
        "markdown": markdown.render(report).splitlines()[0],
        "html title": page.split("<title>")[1].split("</title>")[0],
        "html": page.split('<p class="verdict')[1].split("</p>")[0],
        "junit": next(p.get("value") or "" for p in suite.iter("property") if p.get("name") == "verdict_in_words"),
        "junit output": (suite.findtext("system-out") or "").splitlines()[0],
        "terminal": on_terminal(*report_lines(report, width=200)),
        "gate": on_terminal(gates_table(report)),
    }


def test_gates_on_speed_and_size_alone(make_report: MakeReport) -> None:
    report = make_report(gates=SPEED)
    assert verdict_in_words(report) == UNJUDGED
    for form, heading in headings(report).items():
        assert UNJUDGED in heading, form
    assert report.notes[0].startswith("Quality was not judged: the gates that passed (`min_speedup` and `max_par")
    assert "`max_kl`" in report.notes[0]
    assert "max_bits_per_byte_rise" not in report.notes[0]  # which this pruning has no figure for
    assert report.notes[0] in (ET.fromstring(junit.render(report).encode()).findtext("testsuite/system-out") or "")


@pytest.mark.parametrize("gate", [name for name, m in GATES.items() if m.section.quality and not m.in_any_tokens])
def test_one_gate_on_quality_is_enough(make_report: MakeReport, gate: str) -> None:
    loose = 0.01 if gate.startswith("min_") else 9 if "ratio" in gate else 1
    report = make_report(gates={**SPEED, gate: loose})
    assert report.verdict == "passed"
    assert quality_was_judged(report)
    assert "quality was not judged" not in " ".join([*headings(report).values(), *report.notes]).lower()


def test_a_failure_is_not_softened(make_report: MakeReport) -> None:
    report = make_report(gates={"min_speedup": 9})
    assert verdict_in_words(report) == "1 of 1 gate failed"
    assert not any("Quality was not judged" in note for note in report.notes)


def test_a_speedup_that_was_not_shown(make_report: MakeReport, report: Report) -> None:
    found = make_report(gates={"min_speedup": 1.05, "judge": "median"}, benchmarks=slower(report))
    assert found.verdict == "passed"
    assert verdict_in_words(found) == BOTH
    for form, heading in headings(found).items():
        assert BOTH in heading, form
    assert result_in_words(found.gates[0]) == "passed, no speedup shown"
    assert "✅ passed, no speedup shown" in markdown.render(found)
    assert "passed, no speedup shown" in html.render(found)
    assert "the interval holds 1×" in found.gates[0].message


def test_a_speedup_that_was_shown(make_report: MakeReport) -> None:
    report = make_report(gates={"min_speedup": 1.05, "max_kl": 9})
    assert verdict_in_words(report) == "All 2 gates passed"
    assert [result_in_words(gate) for gate in report.gates] == ["passed", "passed"]
