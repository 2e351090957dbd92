"""A result held against an earlier one's: by how much each figure is worse, and what its interval allows."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, hypot, log
from typing import Any

import pytest

from secateur.contract.jobs import Verdict
from secateur.contract.measurements import Benchmarks, Interval, Measurement
from secateur.contract.report import GateResult, Report
from secateur.report.gates import limit_in_words, quality_was_judged, value_in_words
from tests.fixtures.reports import benchmarks, make_one, recovered

Change = Callable[[Measurement], dict[str, Any]]
LABEL = {"label": {"branch": "main"}}


def earlier(change: Change = lambda _: {}, **report: Any) -> Report:
    """A report whose final variant has other figures."""
    return make_one(benchmarks=measured(change), **report)


def measured(change: Change) -> Benchmarks:
    *others, final = benchmarks().variants
    return benchmarks(variants=[*others, final.model_copy(update=change(final))])


def held(against: Report | None, *, judge: str = "interval", baseline: Any = LABEL, **regression: Any) -> Report:
    """The usual report, held against another by these figures, and by nothing else."""
    return make_one(earlier=against, gates={"judge": judge}, baseline={**baseline, "max_regression": regression})


def one(report: Report) -> GateResult:
    (gate,) = report.gates
    return gate


def slower(rate: float, low: float, high: float) -> Change:
    def change(final: Measurement) -> dict[str, Any]:
        first, *rest = final.latency
        speedup = Interval(median=rate, low=low, high=high)
        return {"latency": [first.model_copy(update={"speedup": speedup}), *rest]}

    return change


def test_a_share_is_worse_by_the_ratio_and_its_interval_is_made_of_both() -> None:
    """Against a plain oracle: the logarithms' differences, the reaches in quadrature."""
    mine = 26.5 / 21.4
    gate = one(held(earlier(slower(1.35, 1.30, 1.41)), speedup=0.2))
    value = log(1.35) - log(mine)
    below = hypot(log(1.35) - log(1.30), log(mine + 0.03) - log(mine))
    above = hypot(log(1.41) - log(1.35), log(mine) - log(mine - 0.03))
    assert gate.value == pytest.approx(1 - exp(-value))
    assert (gate.low, gate.high) == pytest.approx((1 - exp(-(value - below)), 1 - exp(-(value + above))))
    assert gate.judged == gate.high
    assert gate.passed


@pytest.mark.parametrize(
    ("judge", "limit", "passed"),
    [("interval", 0.15, True), ("interval", 0.12, False), ("median", 0.09, True), ("median", 0.08, False)],
)
def test_the_worse_end_is_held_to_the_limit_or_the_figure(judge: str, limit: float, passed: bool) -> None:
    # 8.3 % slower, 3.2 to 13.3 %
    report = held(earlier(slower(1.35, 1.30, 1.41)), judge=judge, speedup=limit)
    assert one(report).passed is passed
    assert report.verdict is (Verdict.PASSED if passed else Verdict.FAILED)


def test_what_is_better_passes_without_any_allowance() -> None:
    gate = one(held(earlier(slower(1.0, 0.98, 1.02)), speedup=0))
    assert gate.passed
    assert gate.value is not None
    assert gate.value < 0
    assert "better" in gate.message


def test_the_same_result_passes_only_with_room_for_its_noise() -> None:
    assert not one(held(earlier(), speedup=0)).passed
    assert one(held(earlier(), speedup=0, judge="median")).passed
    assert one(held(earlier(), speedup=0.05)).passed
    assert "neither better nor worse" in one(held(earlier(), speedup=0.05)).message


def test_counts_have_no_interval() -> None:
    fewer = earlier(lambda _: {"parameters": 110_000_000})
    assert one(held(fewer, parameters=0.03)).passed
    gate = one(held(fewer, parameters=0.02))
    assert not gate.passed
    assert gate.value == pytest.approx(113_275_008 / 110_000_000 - 1)
    assert (gate.low, gate.high) == (None, None)
    assert gate.message.startswith("parameters is 113,275,008 and was 110,000,000 in job ")
    assert gate.message.endswith(": 2.98 % worse, above 2 %")


def test_the_worst_text_is_judged() -> None:
    """KL 0.44 and 0.83 against 0.42 and 0.70: the second is worse by more."""

    def change(final: Measurement) -> dict[str, Any]:
        changed = [
            found.model_copy(update={"kl": kl, "kl_low": kl * 0.99, "kl_high": kl * 1.01})
            for found, kl in zip(final.fidelity, (0.42, 0.70), strict=True)
        ]
        return {"fidelity": changed}

    gate = one(held(earlier(change), kl=0.3))
    assert gate.value == pytest.approx(0.83 / 0.70 - 1)
    assert "wikitext" in gate.metric
    assert gate.passed
    assert not one(held(earlier(change), kl=0.2)).passed


def test_accuracy_is_held_in_points_over_all_tasks() -> None:
    """Drops were measured in pairs with the same original, so these are held against each other."""

    def change(final: Measurement) -> dict[str, Any]:
        drop = {"drop": 0.05, "drop_low": 0.04, "drop_high": 0.06}
        return {"tasks": [task.model_copy(update={**drop, "value": task.value + 0.03}) for task in final.tasks]}

    gate = one(held(earlier(change), accuracy=0.05))
    reach = hypot(0.015, 0.01)  # of each of three tasks
    assert gate.value == pytest.approx(0.03)
    assert (gate.low, gate.high) == pytest.approx((0.03 - reach / 3**0.5, 0.03 + reach / 3**0.5))
    assert gate.passed
    assert not one(held(earlier(change), accuracy=0.04)).passed
    assert value_in_words(gate) == "3.0 points worse"
    assert limit_in_words(gate) == "at most 5 points worse, at the worse end"


def test_agreement_is_held_in_points() -> None:
    def change(final: Measurement) -> dict[str, Any]:
        return {"fidelity": [f.model_copy(update={"top1_agreement": f.top1_agreement + 0.05}) for f in final.fidelity]}

    gate = one(held(earlier(change), judge="median", top1_agreement=0.05 + 1e-9))
    assert gate.value == pytest.approx(0.05)
    assert gate.passed


def test_perplexities_are_held_by_their_ratios_to_the_same_original() -> None:
    def change(final: Measurement) -> dict[str, Any]:
        ratios = {"ratio": 1.4, "ratio_low": 1.38, "ratio_high": 1.42}
        return {"perplexity": [p.model_copy(update=ratios) for p in final.perplexity]}

    gate = one(held(earlier(change), perplexity=1))
    assert gate.value == pytest.approx(77.9 / 31.4 / 1.4 - 1)  # the worse of two texts
    assert gate.low is not None
    assert gate.low > 0.7  # of ratios, whose intervals are narrow, and not of perplexities


def elsewhere(report: Report) -> Report:
    machine = report.benchmarks.environment.model_copy(update={"device_name": "another"})
    return report.model_copy(update={"benchmarks": report.benchmarks.model_copy(update={"environment": machine})})


@pytest.mark.parametrize(
    ("against", "figure", "why"),
    [
        (lambda: elsewhere(earlier()), "speedup", "measured on different machines"),
        (lambda: earlier(lambda _: {"tasks": []}), "accuracy", "that job did not measure it"),
        (lambda: earlier(lambda final: {"tasks": final.tasks[:2]}), "accuracy", "that job did not measure it on boolq"),
        (lambda: earlier(lambda final: {"fidelity": final.fidelity[:1]}), "kl", "that job did not measure it on Sales"),
        (lambda: None, "kl", "there is no job with the label branch=main"),
    ],
)
def test_what_cannot_be_compared_fails(against: Callable[[], Report | None], figure: str, why: str) -> None:
    limits: dict[str, Any] = {figure: 10.0}
    report = held(against(), **limits)
    assert report.verdict is Verdict.FAILED
    gate = one(report)
    assert (gate.passed, gate.value) == (False, None)
    assert why in gate.message


def test_quality_is_compared_across_machines() -> None:
    assert one(held(elsewhere(earlier()), kl=0.2)).passed


def test_without_an_interval_only_the_figure_can_be_judged() -> None:
    def change(final: Measurement) -> dict[str, Any]:
        return {"fidelity": [f.model_copy(update={"kl_low": None, "kl_high": None}) for f in final.fidelity]}

    gate = one(held(earlier(change), kl=0.5))
    assert not gate.passed
    assert "too little was measured for an interval" in gate.message
    assert one(held(earlier(change), judge="median", kl=0.5)).passed


def test_nothing_is_a_share_of_nothing() -> None:
    def change(final: Measurement) -> dict[str, Any]:
        return {"fidelity": [f.model_copy(update={"kl": 0.0, "kl_low": 0.0, "kl_high": 0.0}) for f in final.fidelity]}

    gate = one(held(earlier(change), kl=1000))
    assert (gate.passed, gate.value, gate.judged) == (False, None, None)
    assert "worse than any share of that" in gate.message


def test_the_report_says_against_which_job_and_joins_the_gates() -> None:
    against = earlier()
    report = make_one(
        earlier=against,
        gates={"min_speedup": 1.2},
        baseline={**LABEL, "max_regression": {"speedup": 0.1, "kl": 0.2}},
    )
    assert report.baseline is not None
    assert report.baseline.job_id == against.job_id
    assert [gate.gate for gate in report.gates] == ["min_speedup", "max_regression.speedup", "max_regression.kl"]
    assert report.verdict is Verdict.PASSED
    assert quality_was_judged(report)
    assert not quality_was_judged(held(against, speedup=0.1))
    failed = make_one(earlier=against, gates={"min_speedup": 2}, baseline={**LABEL, "max_regression": {"speedup": 0.1}})
    assert failed.verdict is Verdict.FAILED


def test_a_baseline_that_need_not_be_there_judges_nothing_where_there_is_none() -> None:
    report = held(None, baseline={**LABEL, "required": False}, kl=0.1)
    assert (report.verdict, report.gates, report.baseline) == (Verdict.NONE, [], None)
    assert "none with the label branch=main has passed before this one" in " ".join(report.notes)


def test_another_model_is_held_by_its_own_figures() -> None:
    """Ratios to two originals say nothing of each other."""
    other = earlier().model_copy(update={"model": earlier().model.model_copy(update={"fingerprint": "ab" * 32})})
    gate = one(held(other, perplexity=0.5))
    assert gate.value == pytest.approx(0)
    final = make_one().benchmarks.variants[-1].perplexity[0]
    assert final.low is not None
    assert final.high is not None
    assert gate.high == pytest.approx(exp(hypot(log(final.high / final.value), log(final.value / final.low))) - 1)


def test_the_recovered_model_is_the_one_that_is_compared() -> None:
    pruned_alone = make_one(recovered=None, benchmarks=benchmarks(variants=benchmarks().variants[:2]))
    gate = one(held(pruned_alone, kl=0.1))
    assert gate.passed  # 0.83 where the pruned one had 1.48
    assert recovered().kind == "lora"
