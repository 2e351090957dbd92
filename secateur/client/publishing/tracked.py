"""What a tracker of experiments is told of a job: figures, parameters, the curve of its training, tags.

Figures are read off the table of metrics (`secateur/contract/metrics.py`), and none is listed here. A figure's name is

- `speedup`, `perplexity_ratio`: the published variant's, the one number that gates judge, with `…_low` and `…_high`;
- `recovered/speedup/batch_1_12_128_tokens`: each reading of each variant, the original's too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from secateur.contract.metric_row import Metric
from secateur.contract.metrics import METRICS
from secateur.contract.readings import Subject, Variant, variants_of
from secateur.contract.report import Report
from secateur.masking import redact

LONGEST_NAME = 250  # characters, which MLflow takes
LONGEST_VALUE = 500  # of a parameter or a tag, which servers of any age take


def figures(report: Report, variant: str) -> dict[str, float]:
    """Every figure of the report by its name; those without a variant are of the published one.

    Args:
        variant: the published one; where it was not measured, the one that the gates have judged stands in.
    """
    variants = variants_of(report)
    by_name = {one.name: one for one in variants}
    about = by_name.get(variant) or by_name.get(report.final_variant)
    found = dict(_judged(about)) if about else {}
    for one in variants:
        for name, value in _readings(one):
            found[_unused(name, found)] = value
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _judged(variant: Variant) -> Iterator[tuple[str, float]]:
    for metric in METRICS.values():
        if judged := metric.judged(variant):
            worst = metric.worst(judged)
            ends = (("", worst.value), ("_low", worst.low), ("_high", worst.high))
            yield from ((judged_name(metric) + end, value) for end, value in ends if value is not None)


def judged_name(metric: Metric) -> str:
    """What the number is called that gates judge: of a comparison, by its label, since the figure is another number."""
    return metric.name if metric.judges == "value" else slug(metric.label.replace("-", " "))


def _readings(variant: Variant) -> Iterator[tuple[str, float]]:
    for metric in METRICS.values():
        for reading in metric.read(variant):
            parts = (slug(variant.name), metric.name, slug(_words(reading.subject)))
            yield _fit("/".join(part for part in parts if part)), reading.value


def _words(subject: Subject) -> str:
    return " ".join(part for part in (subject.place, subject.label, subject.how) if part)


def _unused(name: str, used: Mapping[str, float]) -> str:
    number = 1
    given = name
    while given in used:
        number += 1
        given = f"{name[: LONGEST_NAME - 4]}_{number}"
    return given


def slug(words: str) -> str:
    """Words as a part of a name: letters, digits, points, hyphens and single underscores."""
    return re.sub(r"[^\w.-]+", "_", words, flags=re.ASCII).strip("_").lower()


def parameters(report: Report) -> dict[str, str]:
    """The job's spec, a name for each field: `pruning.blocks`. Labels are tags, and no parameters."""
    spec = {name: value for name, value in report.spec.items() if name != "labels"}
    return {slug_tag(name): redact(value)[:LONGEST_VALUE] for name, value in _flat(spec)}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif value is not None:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def curve(report: Report) -> list[tuple[int, dict[str, float]]]:
    """The recovery's losses and learning rate, by the step; empty where nothing was trained."""
    points = report.recovered.curve if report.recovered else []
    told = [(point.step, point.model_dump(exclude={"step"}, exclude_none=True)) for point in points]
    return [
        (step, {f"recovery/{name}": value for name, value in values.items() if math.isfinite(value)})
        for step, values in told
    ]


def tags(report: Report, *, service: str, variants: list[str]) -> dict[str, str]:
    """Where the run comes from, and the job's labels."""
    model = report.model
    about = {
        "secateur.job": str(report.job_id),
        "secateur.service": redact(service),
        "secateur.variants": ",".join(variants),
        "secateur.verdict": report.verdict.value,
        "secateur.model": model.id,
        "secateur.model_revision": model.revision or "",
        "secateur.licence": (model.licence.title or model.licence.name) if model.licence else "",
    }
    labels = {f"label.{name}": str(value) for name, value in report.spec.get("labels", {}).items()}
    return {slug_tag(name): value[:LONGEST_VALUE] for name, value in (about | labels).items() if value}


def slug_tag(name: str) -> str:
    """A label's name as that of a tag, or within a parameter's: what trackers do not take is an underscore."""
    return _fit(re.sub(r"[^\w. /-]", "_", name, flags=re.ASCII))


def _fit(name: str) -> str:
    """A name that could be that of a file, since MLflow takes no other: `a//b`, `a/` and `a/../b` are none."""
    parts = name[: LONGEST_NAME - 1].split("/")
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)
