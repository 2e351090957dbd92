"""The gates' results in words, the same in every form of the report."""

from __future__ import annotations

from secateur.contract.jobs import Verdict
from secateur.contract.results import GateResult, Report
from workers.reporting import numbers as n
from workers.reporting.text import plural


def verdict_in_words(report: Report) -> str:
    """ "1 of 4 gates failed", "All 4 gates passed", "No gates were set"."""
    failed = sum(not gate.passed for gate in report.gates)
    if report.verdict is Verdict.NONE:
        return "No gates were set"
    if failed:
        return f"{failed} of {plural(len(report.gates), 'gate')} failed"
    return "The gate passed" if len(report.gates) == 1 else f"All {len(report.gates)} gates passed"


def limit_in_words(gate: GateResult) -> str:
    """ "at least 1.25", or "low end at least 1.25" where the interval was judged."""
    least = gate.gate.startswith("min_")
    end = "" if gate.judged in (None, gate.value) else "low end " if least else "high end "
    return f"{end}{'at least' if least else 'at most'} {n.plain(gate.threshold)}"


def value_in_words(gate: GateResult) -> str:
    """A gate's measured value: whole numbers in full, others to four digits, so that it can be held to the limit."""
    if gate.value is None:
        return "not measured"
    whole = float(gate.value).is_integer() and gate.value >= 1000
    return n.count(int(gate.value)) if whole else n.significant(gate.value, 4)
