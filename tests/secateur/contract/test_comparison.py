"""Two reports side by side: what differs, what may be compared, and what it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from secateur.contract.comparison import Compared, JobComparison, NotCompared, SpecDifference, compare_reports
from secateur.contract.measurements import Measurement
from secateur.contract.report import Report
from tests.fixtures.reports import make_one

Change = Callable[[Measurement], dict[str, Any]]


def with_final(change: Change, **report: Any) -> Report:
    """A report whose final variant has other figures."""
    made = make_one(**report)
    *others, final = made.benchmarks.variants
    variants = [*others, final.model_copy(update=change(final))]
    return made.model_copy(update={"benchmarks": made.benchmarks.model_copy(update={"variants": variants})})


def elsewhere(report: Report, **changes: Any) -> Report:
    """The same, measured on another machine."""
    machine = report.benchmarks.environment.model_copy(update=changes)
    return report.model_copy(update={"benchmarks": report.benchmarks.model_copy(update={"environment": machine})})


def of(found: JobComparison, metric: str, *, where: str = "") -> Compared:
    return next(one for one in found.figures if one.metric == metric and where in one.of)


def apart(found: JobComparison, metric: str) -> list[NotCompared]:
    return [one for one in found.not_compared if one.metric == metric]


def test_equal_jobs_differ_in_nothing() -> None:
    found = compare_reports(make_one(), make_one())
    assert (found.spec, found.not_compared, found.notes) == ([], [], [])
    assert {one.metric for one in found.figures} >= {
        "parameters",
        "speedup",
        "peak_memory",
        "kl",
        "accuracy",
        "same_text",
    }
    assert all(one.difference == 0 and one.better is None for one in found.figures)
    assert {one.overlap for one in found.figures} == {True, None}
    assert found.job.final_variant == "recovered"
    assert found.job.blocks_removed == [10, 17, 20, 21, 24, 25]


def test_counts_differ_or_do_not() -> None:
    found = compare_reports(make_one(), with_final(lambda _: {"parameters": 100_000_000}))
    parameters = of(found, "parameters")
    assert (parameters.job.value, parameters.other.value) == (113_275_008, 100_000_000)
    assert parameters.difference == -13_275_008
    assert parameters.relative == pytest.approx(-13_275_008 / 113_275_008)
    assert (parameters.overlap, parameters.interval_of, parameters.better) == (None, None, "other")
    assert of(compare_reports(with_final(lambda _: {"parameters": 1}), make_one()), "parameters").better == "job"


@pytest.mark.parametrize(
    ("beyond", "overlap", "better"), [(-0.01, True, None), (0.0, True, None), (0.01, False, "job")]
)
def test_a_figure_is_better_only_where_the_intervals_lie_apart(
    beyond: float, overlap: bool, better: str | None
) -> None:
    """Intervals that touch overlap; `beyond`: from the end of the first to the beginning of the second."""
    first = make_one()
    end = first.benchmarks.variants[-1].fidelity[0].kl_high
    assert end is not None

    def worse(final: Measurement) -> dict[str, Any]:
        one, *rest = final.fidelity
        return {"fidelity": [one.model_copy(update={"kl": 0.5, "kl_low": end + beyond, "kl_high": 0.55}), *rest]}

    found = of(compare_reports(first, with_final(worse)), "kl", where="news.txt")
    assert (found.overlap, found.interval_of, found.better) == (overlap, "value", better)
    assert found.difference == pytest.approx(0.06)
    turned = of(compare_reports(with_final(worse), first), "kl", where="news.txt")
    assert (turned.overlap, turned.better) == (overlap, "other" if better else None)


def test_what_was_measured_in_pairs_decides_where_the_original_is_the_same() -> None:
    """Accuracies have no interval of their own; their drops on the same items have."""

    def worse(final: Measurement) -> dict[str, Any]:
        first, *rest = final.tasks
        changed = {"value": first.value - 0.1, "drop": 0.18, "drop_low": 0.165, "drop_high": 0.195}
        return {"tasks": [first.model_copy(update=changed), *rest]}

    found = of(compare_reports(make_one(), with_final(worse)), "accuracy", where="piqa")
    assert (found.overlap, found.interval_of, found.better) == (False, "against_original", "job")
    assert found.other.against_original is not None
    assert found.other.against_original.model_dump() == {"value": 0.18, "low": 0.165, "high": 0.195}
    other = with_final(worse)
    other = other.model_copy(update={"model": other.model.model_copy(update={"fingerprint": "77" * 32})})
    result = compare_reports(make_one(), other)
    found = of(result, "accuracy", where="piqa")
    assert (found.overlap, found.interval_of, found.better) == (None, None, None)
    assert "each one's own" in result.notes[0]


def test_other_texts_are_not_compared() -> None:
    def elsewhere(final: Measurement) -> dict[str, Any]:
        first, *rest = final.perplexity
        return {"perplexity": [first.model_copy(update={"protocol": "windows of 64 tokens"}), *rest]}

    found = compare_reports(make_one(), with_final(elsewhere))
    assert [one.of for one in found.figures if one.metric == "perplexity"] == [
        "Salesforce/wikitext, wikitext-2-raw-v1, test"
    ]
    mine, theirs = apart(found, "perplexity")
    assert (mine.why, theirs.why) == (
        "the other job measured it on something else",
        "the job measured it on something else",
    )
    assert mine.other is None
    assert theirs.job is None


def test_what_one_lacks_is_listed() -> None:
    found = compare_reports(make_one(), with_final(lambda _: {"fidelity": [], "memory": None}))
    assert {one.why for metric in ("kl", "top1_agreement", "peak_memory") for one in apart(found, metric)} == {
        "the other job did not measure it"
    }
    assert len(apart(found, "kl")) == 2
    assert {one.why for one in compare_reports(with_final(lambda _: {"tasks": []}), make_one()).not_compared} == {
        "the job did not measure it"
    }


@pytest.mark.parametrize(
    ("metric", "change"),
    [
        ("accuracy", lambda final: {"tasks": [one.model_copy(update={"items": 100}) for one in final.tasks]}),
        ("accuracy", lambda final: {"tasks": [one.model_copy(update={"few_shot": 5}) for one in final.tasks]}),
        (
            "exact_match",
            lambda final: {"generation": [one.model_copy(update={"chat": False}) for one in final.generation]},
        ),
        ("repetition", lambda final: {"sampled": final.sampled.model_copy(update={"samples": 9})}),
        ("seconds", lambda final: {"latency": [one.model_copy(update={"compiled": True}) for one in final.latency]}),
        ("peak_memory", lambda final: {"latency": final.latency[:1]}),
    ],
)
def test_the_same_thing_measured_otherwise_is_not_compared(metric: str, change: Change) -> None:
    found = compare_reports(make_one(), with_final(change))
    assert not [one for one in found.figures if one.metric == metric and metric != "peak_memory"]
    listed = apart(found, metric)
    assert listed
    assert all(one.why.startswith("measured in different ways: ") for one in listed if one.job and one.other)
    assert any(one.job and one.other for one in listed)


def test_answers_to_other_prompts_are_not_compared() -> None:
    found = compare_reports(make_one(), make_one(seed=7))
    assert found.spec == [SpecDifference(pointer="/seed", job=0, other=7)]
    assert {one.metric for one in found.not_compared} == {"exact_match", "same_text", "repetition", "sample_length"}
    shorter = compare_reports(make_one(), make_one(benchmark={"samples": {"max_new_tokens": 8}}))
    assert {one.metric for one in shorter.not_compared} == {"repetition", "sample_length"}


@pytest.mark.parametrize("change", [{"device_name": "NVIDIA H200"}, {"dtype": "bfloat16"}, {"threads": 4}])
def test_times_of_different_machines_are_not_compared(change: dict[str, Any]) -> None:
    found = compare_reports(make_one(), elsewhere(make_one(), **change))
    assert {"speedup", "seconds", "peak_memory"} <= {one.metric for one in found.not_compared}
    assert {"parameters", "kl", "perplexity", "accuracy"} <= {one.metric for one in found.figures}
    assert "different machines" in apart(found, "speedup")[0].why
    assert str(next(iter(change.values()))) in found.notes[0]


def test_other_versions_are_told() -> None:
    other = elsewhere(make_one(), versions={"secateur": "0.1.0", "torch": "2.14.0"})
    assert compare_reports(make_one(), other).notes == [
        "Measured with torch 2.13.0 against 2.14.0.",
        "Measured with transformers 5.24.0 against an unknown one.",
    ]


def test_specs_differ_place_by_place() -> None:
    other = make_one(
        pruning={"kind": "depth", "ratio": 0.2},
        labels={"commit": "abc123", "team/name": "x"},
        quantise=[{"kind": "int8"}],
        scoring={"criterion": "magnitude"},
    )
    found = {one.pointer: one for one in compare_reports(make_one(), other).spec}
    assert (found["/pruning/blocks"].job, found["/pruning/blocks"].other) == (6, None)
    assert (found["/pruning/ratio"].job, found["/pruning/ratio"].other) == (None, 0.2)
    assert found["/labels/team~1name"] == SpecDifference(pointer="/labels/team~1name", other="x", only="other")
    assert found["/labels/pipeline"].only == "job"
    assert found["/quantise"].job == []
    assert found["/scoring/criterion"].other == "magnitude"
    assert found["/scoring/calibration"].only == "job"


def test_lists_of_objects_are_compared_one_by_one() -> None:
    one = make_one(quantise=[{"kind": "int8"}, {"kind": "int4", "group_size": 64}])
    two = make_one(quantise=[{"kind": "int8"}, {"kind": "int4", "group_size": 128}])
    (found,) = compare_reports(one, two).spec
    assert (found.pointer, found.job, found.other) == ("/quantise/1/group_size", 64, 128)


def test_what_is_no_number_can_be_written() -> None:
    def broken(final: Measurement) -> dict[str, Any]:
        first, *rest = final.perplexity
        return {"perplexity": [first.model_copy(update={"value": float("inf"), "high": float("inf")}), *rest]}

    found = of(compare_reports(make_one(), with_final(broken)), "perplexity", where="news.txt")
    assert (found.other.value, found.other.high, found.difference, found.relative) == (None, None, None, None)
    assert "Infinity" not in found.model_dump_json()
