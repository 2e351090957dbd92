"""The rows and first figures that every form of a report shows."""

from __future__ import annotations

from typing import Any

from app.api import example_results
from secateur.contract.measurements import Measurement, TaskScore
from secateur.contract.metrics import METRICS
from secateur.contract.report import Report
from secateur.contract.results import PrunedFile, SourceFile
from secateur.report.figures import NOT_MEASURED, Row, groups, headlines
from tests.fixtures.reports import MakeReport, benchmarks

COMMON: dict[str, Any] = {"task": "piqa", "metric": "acc", "items": 200, "few_shot": 0, "version": "1.0"}
ORIGINAL = TaskScore(**COMMON, value=0.64, standard_error=0.034)
PRUNED = TaskScore(**COMMON, value=0.6, standard_error=0.035, drop=0.04, drop_low=0.01, drop_high=0.07, p_value=0.021)


def with_tasks(make_report: MakeReport, *scores: list[TaskScore]) -> Report:
    found = benchmarks()
    variants = [m.model_copy(update={"tasks": tasks}) for m, tasks in zip(found.variants, scores, strict=True)]
    return make_report(benchmarks=found.model_copy(update={"variants": variants}))


def rows(report: Report, title: str) -> list[Row]:
    return [row for group in groups(report) if group.title == title for row in group.rows]


def test_a_task_has_a_row_with_its_metric_and_the_drop_with_its_test(make_report: MakeReport) -> None:
    (row,) = rows(with_tasks(make_report, [ORIGINAL], [PRUNED], []), "Tasks")
    assert row.label == "piqa"
    assert row.how == "acc, 200 items, zero-shot, version 1.0"
    assert (row.cells[0].value, row.cells[0].change, row.cells[0].interval) == ("64.0 %", "", "± 3.40 %")
    assert (row.cells[1].value, row.cells[1].change) == ("60.0 %", "−4.0 points")
    assert row.cells[1].interval == "± 3.50 %, p 0.021"
    assert row.cells[2] is NOT_MEASURED
    assert row.short


def test_of_several_filters_the_first_stands_in_short_tables(make_report: MakeReport) -> None:
    strict = [score.model_copy(update={"filter": "strict"}) for score in (ORIGINAL, PRUNED, PRUNED)]
    loose = [score.model_copy(update={"filter": "loose", "headline": False}) for score in (ORIGINAL, PRUNED, PRUNED)]
    found = rows(with_tasks(make_report, *map(list, zip(strict, loose, strict=True))), "Tasks")
    assert [(row.label, row.short) for row in found] == [("piqa, strict", True), ("piqa, loose", False)]


def test_without_tasks_there_is_no_such_table(make_report: MakeReport) -> None:
    assert rows(with_tasks(make_report, [], [], []), "Tasks") == []


def test_the_original_has_what_it_has_by_definition(report: Report) -> None:
    found = {row.label: row.cells[0].value for group in groups(report) for row in group.rows}
    assert (found["Speedup"], found["KL divergence"], found["Top-1 agreement"]) == ("1×", "0", "100 %")


def test_only_the_first_cell_is_in_short_tables(report: Report) -> None:
    assert [row.short for row in rows(report, "Speed") if row.label == "Speedup"] == [True, False]


def test_first_figures_are_of_the_worst_text(report: Report) -> None:
    found = {headline.metric: headline for headline in headlines(report)}
    of_no_such_model = {
        "file_size",
        "bits_per_byte",
        "llama_cpp_speedup",
        "vllm_speedup",
        "draft_speedup",
        "draft_acceptance",
    }
    assert list(found) == [name for name, m in METRICS.items() if m.headline and name not in of_no_such_model]
    assert found["kl"].value == "0.830"
    assert found["kl"].detail.startswith("0.780 to 0.880 nats per token on Salesforce/wikitext")
    assert found["perplexity"].value == "2.48×"
    assert found["perplexity"].label == "Perplexity ratio"
    assert found["perplexity"].detail.startswith("2.41 to 2.56, 31.4 → 77.9 on Salesforce/wikitext")
    assert (found["accuracy"].label, found["accuracy"].value) == ("Accuracy drop", "8.0 points")
    assert found["accuracy"].detail.endswith("(mean of 3 tasks)")
    assert found["speedup"].detail == "1.21 to 1.27 (batch 1, 12 + 128 tokens)"
    assert (found["weights_on_disk"].value, found["weights_on_disk"].detail) == ("−15.8 %", "538 MB → 453 MB")


def test_first_figures_are_only_of_what_was_measured() -> None:
    report = Report.model_validate(example_results.REPORT)
    measured = ["Parameters", "Weights on disk", "Speedup", "Speedup under llama.cpp", "Exact-match drop", "Same text"]
    assert [headline.label for headline in headlines(report)] == measured
    without = [variant.model_copy(update={"generation": []}) for variant in report.benchmarks.variants]
    benchmarks = report.benchmarks.model_copy(update={"variants": without})
    found = headlines(report.model_copy(update={"benchmarks": benchmarks}))
    assert [headline.label for headline in found] == measured[:4]


def test_a_file_that_comes_and_goes_as_one_has_its_own_row(make_report: MakeReport, report: Report) -> None:
    file = PrunedFile(path="m-pruned.gguf", bytes_before=98_900_000, bytes_after=80_100_000)
    model = report.model.model_copy(update={"file": SourceFile(bytes=98_900_000, type="Q4_1")})
    changed = make_report(pruned=report.pruned.model_copy(update={"model": model, "gguf": file}))
    row = next(row for row in rows(changed, "Size") if row.label == "GGUF file")
    assert [(cell.value, cell.change) for cell in row.cells] == [("98.9 MB", ""), ("80.1 MB", "−19.0 %"), ("–", "")]
    assert row.how == "came in Q4_1"
    assert next(row for row in rows(changed, "Size") if row.label == "Weights on disk").how == "unpacked"
    weights = next(headline for headline in headlines(changed) if headline.metric == "weights_on_disk")
    assert weights.detail == "538 MB → 453 MB (unpacked)"


def test_a_measurement_of_nothing_has_its_sizes_alone(make_report: MakeReport) -> None:
    variants = [
        Measurement(variant=name, parameters=10, blocks=2, bytes_on_disk=40)
        for name in ("original", "pruned", "recovered")
    ]
    report = make_report(benchmarks=benchmarks(variants=variants), gates={})
    assert [row.label for group in groups(report) for row in group.rows] == ["Parameters", "Blocks", "Weights on disk"]
