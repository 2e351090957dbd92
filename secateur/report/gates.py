"""The gates' results in words, the same in every form of the report."""

from __future__ import annotations

from secateur.contract.jobs import Verdict
from secateur.contract.numbers import NUMBER, Format
from secateur.contract.options.gates import GATES, is_least
from secateur.contract.regression import figure_of, regression_format, worse_in_words
from secateur.contract.report import GateResult, Report
from secateur.contract.target_figures import TARGET_FIGURES
from secateur.report.text import listed, plural


def verdict_in_words(report: Report) -> str:
    """ "1 of 4 gates failed", "All 4 gates passed", "The gate passed, but quality was not judged", "No gates were set".

    Whoever reads no further must not take a pass for more than it is.
    """
    failed = sum(not gate.passed for gate in report.gates)
    if report.verdict is Verdict.NONE:
        return "No gates were set"
    if failed:
        return f"{failed} of {plural(len(report.gates), 'gate')} failed"
    passed = "The gate passed" if len(report.gates) == 1 else f"All {len(report.gates)} gates passed"
    missing = [] if quality_was_judged(report) else ["quality was not judged"]
    missing += dict.fromkeys(f"no {remark} was shown" for gate in report.gates if (remark := unshown_gain(gate)))
    return f"{passed}, but {listed(missing)}" if missing else passed


def quality_was_judged(report: Report) -> bool:
    """Whether any of the job's gates is on how good the model is, and not on its speed or size alone."""
    return any(
        metric.section.quality for gate in report.gates if (metric := GATES.get(gate.gate) or figure_of(gate.gate))
    )


def unshown_gain(gate: GateResult) -> str:
    """The gain that a gate is on and that was not shown, in a word: "speedup"; empty where nothing is amiss."""
    metric = GATES.get(gate.gate)
    return metric.sought if metric and metric.unshown(gate.low, gate.high) else ""


def result_in_words(gate: GateResult) -> str:
    """ "passed", "failed", "passed, no speedup shown"."""
    if not gate.passed:
        return "failed"
    return f"passed, no {remark} shown" if (remark := unshown_gain(gate)) else "passed"


def limit_in_words(gate: GateResult) -> str:
    """ "at least 1.25×", or "low end at least 1.25×" where the interval was judged."""
    if figure_of(gate.gate):
        end = "" if gate.judged in (None, gate.value) else ", at the worse end"
        return f"at most {typed_limit(gate)} worse{end}"
    end = "" if gate.judged in (None, gate.value) else "low end " if gate.judged == gate.low else "high end "
    return f"{end}{'at least' if is_least(gate.gate) else 'at most'} {typed_limit(gate)}"


def typed_limit(gate: GateResult) -> str:
    """The limit by itself: "1.25×"."""
    return _format(gate).typed(gate.threshold)


def value_in_words(gate: GateResult) -> str:
    """What was measured: "1.24×"."""
    if gate.value is None:
        return "not measured"
    if figure := figure_of(gate.gate):
        return worse_in_words(figure, gate.value)
    if gate.judged == gate.value:
        return _format(gate).apart(gate.value, gate.threshold)
    return _format(gate).write(gate.value)


def interval_in_words(gate: GateResult) -> str:
    """ "1.21 to 1.27"; empty where there is none."""
    return _format(gate).span(gate.low, gate.high)


def _format(gate: GateResult) -> Format:
    if metric := GATES.get(gate.gate):
        return metric.judged_format
    if figure := figure_of(gate.gate):
        return regression_format(figure)
    return next((figure.format for figure in TARGET_FIGURES.values() if figure.gate == gate.gate), NUMBER)
