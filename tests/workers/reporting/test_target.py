"""A target in the report: reached where the interval of the real result does not leave it out."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from secateur.contract.jobs import Verdict
from secateur.contract.planning import Planned, TimedDepth
from secateur.contract.report import Report
from secateur.report.gates import interval_in_words, limit_in_words
from secateur.report.words import plan_in_words
from tests.fixtures.reports import MACHINE, MODEL, MakeReport
from workers.reporting import junit

# the final variant of these reports: 26.5 tokens per second, 26.5 / 21.4 = 1.24 times as fast (1.21 to 1.27)


def depth(removed: int, value: float) -> TimedDepth:
    return TimedDepth(removed=removed, value=value, low=value * 0.98, high=value * 1.02)


def plan(figure: str, asked: float, *, limit: float | None = None, **changes: Any) -> Planned:
    return Planned(
        figure=figure,
        asked=asked,
        limit=asked if limit is None else limit,
        batch_size=1,
        input_tokens=12,
        output_tokens=128,
        original=depth(0, 1),
        tried=[depth(8, 1.4), depth(16, 2.1), depth(24, 4)],
        per_block=0.031,
        removed=6,
        predicted=depth(6, 1.26),
        confirmed=depth(6, 1.25),
        runs=8,
        model=MODEL,
        seconds=81,
        environment=MACHINE,
    ).model_copy(update=changes)


def reported(make_report: MakeReport, target: dict[str, Any], **changes: Any) -> Report:
    figure = next(iter(target))
    return make_report(
        pruning={"kind": "depth", "target": target},
        benchmark={"latency": {"batch_sizes": [1, 4], "output_tokens": [128, 32]}},
        planned=plan(figure, target[figure]),
        **{"gates": {}, **changes},
    )


@pytest.mark.parametrize(
    ("target", "met"),
    [
        ({"speedup": 1.25}, True),
        ({"speedup": 1.28}, False),
        ({"speedup": 1.05}, True),
        ({"tokens_per_second": 27}, True),
        ({"tokens_per_second": 27.1}, False),
        ({"tokens_per_second": 80, "batch_size": 4}, True),
        ({"tokens_per_second": 85, "batch_size": 4}, False),
        ({"latency_ms": 4740}, True),
        ({"latency_ms": 4730}, False),
        ({"memory": 1_118_000_000}, True),
        ({"memory": 0.93}, True),
        ({"memory": 0.92}, False),
    ],
    ids=str,
)
def test_a_target_is_reached_where_the_interval_does_not_leave_it_out(
    make_report: MakeReport, target: dict[str, Any], met: bool
) -> None:
    report = reported(make_report, target)
    assert report.target is not None
    assert (report.target.met, report.target.removed) == (met, 6)
    (gate,) = report.gates
    assert gate.passed is met
    assert report.verdict is (Verdict.PASSED if met else Verdict.FAILED)
    assert any("did not reach its target" in note for note in report.notes) is not met
    case = ET.fromstring(junit.render(report).encode()).find(f".//testcase[@name='{gate.gate}']")
    assert case is not None
    assert (case.find("failure") is None) is met


def test_its_words(make_report: MakeReport) -> None:
    report = reported(make_report, {"speedup": 1.25})
    assert report.target is not None
    assert report.target.message == (
        "speedup of at least 1.25×, reached: 6 of 30 blocks went, for which 1.26× was predicted, and 1.24× (1.21 to "
        "1.27) was measured at batch 1, 12 + 128 tokens"
    )
    (gate,) = report.gates
    assert (limit_in_words(gate), interval_in_words(gate)) == ("high end at least 1.25×", "1.21 to 1.27")
    near = next(note for note in report.notes if "`min_target_speedup`" in note and "near thing" in note)
    assert "lies within the interval" in near
    share = reported(make_report, {"memory": 0.93})
    assert share.target is not None
    assert share.target.limit == int(0.93 * 1_204_000_000)
    assert "peak memory of at most 1.11972 GB (93.0 % of the original's), reached" in share.target.message


def test_how_the_number_was_found() -> None:
    assert plan_in_words(plan("speedup", 1.25)) == (
        "1.40× (1.37 to 1.43) without 8, 2.10× (2.06 to 2.14) without 16, 4.00× (3.92 to 4.08) without 24 blocks; by "
        "these a block is 3.10 % of the original. Chosen: 6, 1.26× (1.23 to 1.29) by the fit and 1.25× (1.23 to 1.27) "
        "as measured, 8 runs each, 1 min 21 s"
    )
    corrected = plan_in_words(plan("speedup", 1.25, corrected_from=5))
    assert "Chosen, in place of 5: 6" in corrected
    assert "8 runs each of 16 in 128 tokens, 1 min" in plan_in_words(plan("speedup", 1.25, timed_tokens=16))
    assert "8 runs each, 1 min" in plan_in_words(plan("speedup", 1.25, timed_tokens=127))


def test_a_failed_gate_fails_beside_a_target_that_is_reached(make_report: MakeReport) -> None:
    report = reported(make_report, {"speedup": 1.2}, gates={"max_kl": 0.1})
    assert [gate.passed for gate in report.gates] == [True, False]
    assert report.verdict is Verdict.FAILED
    report = reported(make_report, {"speedup": 1.4}, gates={"max_parameters": 10**9})
    assert [gate.passed for gate in report.gates] == [False, True]
    assert report.verdict is Verdict.FAILED
