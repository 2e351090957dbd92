"""Stage results become a report that survives JSON, judged on the variant that is handed out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from secateur.contract.errors import StageFailed
from secateur.contract.jobs import Verdict
from secateur.contract.report import Report

MakeReport = Callable[..., Report]


def test_the_recovered_variant_is_judged(report: Report) -> None:
    assert report.final_variant == "recovered"
    assert report.verdict is Verdict.FAILED
    assert [gate.gate for gate in report.gates if not gate.passed] == ["max_kl"]


def test_without_recovery_the_pruned_one_is(make_report: MakeReport, report: Report) -> None:
    benchmarks = report.benchmarks.model_copy(update={"variants": report.benchmarks.variants[:2]})
    assert make_report(recovered=None, benchmarks=benchmarks).final_variant == "pruned"


def test_round_trip(report: Report) -> None:
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_missing_variant_is_a_clear_error(make_report: MakeReport, report: Report) -> None:
    benchmarks = report.benchmarks.model_copy(update={"variants": report.benchmarks.variants[:2]})
    with pytest.raises(StageFailed, match="expected the original first, and recovered"):
        make_report(benchmarks=benchmarks)
