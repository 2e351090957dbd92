"""What trackers are told: every figure that a report has, by the table of metrics."""

from __future__ import annotations

import math
import posixpath
import re
from uuid import UUID

import pytest

from secateur.client.publishing.tracked import (
    LONGEST_NAME,
    curve,
    figures,
    judged_name,
    parameters,
    slug,
    slug_tag,
    tags,
)
from secateur.contract.metrics import METRICS
from secateur.contract.readings import variants_of
from secateur.contract.results import Licence
from tests.fixtures.finished_jobs import a_report
from tests.fixtures.reports import recovered

TAKEN = re.compile(r"[\w./ -]+", re.ASCII)  # by MLflow, as a name


def test_every_reading_of_every_variant_is_told() -> None:
    report = a_report()
    found = figures(report, "recovered")
    for variant in variants_of(report):
        for metric in METRICS.values():
            values = [reading.value for reading in metric.read(variant)]
            prefix = f"{variant.name}/{metric.name}"
            told = [value for name, value in found.items() if name == prefix or name.startswith(f"{prefix}/")]
            assert told == values
    assert len(found) > 60
    assert all(TAKEN.fullmatch(name) and len(name) <= LONGEST_NAME and math.isfinite(found[name]) for name in found)
    assert found["recovered/parameters"] == variants_of(report)[2].measured.parameters
    assert found["original/perplexity/news.txt_0.6_to_1_windows_of_128_tokens_no_overlap_no_bos"] == 24.1


def test_what_gates_judge_stands_alone_with_its_interval() -> None:
    report = a_report()
    found = figures(report, "recovered")
    judged = {result.gate: result.value for result in report.gates}
    assert found["speedup"] == judged["min_speedup"]
    assert found["speedup_low"] < found["speedup"] < found["speedup_high"]
    assert figures(report, "pruned")["kl"] == 1.48  # the worst text
    assert found["kl"] == 0.83
    assert figures(report, "recovered-int8")["kl"] == 0.83  # which was not measured
    assert "perplexity_ratio" in found


def test_names_of_judged_figures_differ() -> None:
    names = [judged_name(metric) for metric in METRICS.values()]
    assert len(names) == len(set(names))


def test_the_curve_of_the_training() -> None:
    told = curve(a_report())
    assert [step for step, _ in told] == [point.step for point in recovered().curve]
    assert set(told[0][1]) == {"recovery/loss", "recovery/learning_rate"}
    assert curve(a_report(recovered=None)) == []


def test_the_spec_is_flat() -> None:
    told = parameters(a_report())
    assert told["pruning.kind"] == "depth"
    assert told["pruning.blocks"] == "6"
    assert not [name for name in told if name.startswith("labels")]
    assert all(isinstance(value, str) and len(value) <= 500 for value in told.values())


def test_labels_within_the_spec_are_names_too() -> None:
    report = a_report()
    report = report.model_copy(update={"spec": {**report.spec, "baseline": {"label": {"team//stage": "x"}}}})
    assert parameters(report)["baseline.label.team/_/stage"] == "x"


def test_tags_tell_where_it_comes_from() -> None:
    report = a_report(labels={"commit": "abc", "team/stage": "x" * 200})
    model = report.model.model_copy(update={"licence": Licence(name="other", title="next")})
    told = tags(
        report.model_copy(update={"model": model, "job_id": UUID(int=7)}),
        service="https://somebody:secret-word@host",
        variants=["recovered", "recovered-gguf"],
    )
    assert told["secateur.job"] == str(UUID(int=7))
    assert (told["secateur.variants"], told["secateur.licence"]) == ("recovered,recovered-gguf", "next")
    assert (told["label.commit"], len(told["label.team/stage"])) == ("abc", 200)
    assert "secret-word" not in str(told)


@pytest.mark.parametrize(
    ("words", "name"),
    [("batch 1, 12 + 128 tokens", "batch_1_12_128_tokens"), ("Größe: “x”", "gr_e_x"), ("a.b-c_d", "a.b-c_d"), ("", "")],
)
def test_slugs(words: str, name: str) -> None:
    assert slug(words) == name


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("label.team/stage", "label.team/stage"),
        ("label.a//b", "label.a/_/b"),
        ("label.a/", "label.a/_"),
        ("label.a/../b", "label.a/_/b"),
        ("label./.", "label./_"),
        ("x" * 248 + "/y", "x" * 248 + "/_"),
    ],
)
def test_names_of_tags_are_such_as_files_have(name: str, taken: str) -> None:
    """Labels may be called otherwise, and MLflow refuses what a path would be resolved to something else."""
    assert slug_tag(name) == taken
    assert posixpath.normpath(taken) == taken
