"""Two jobs side by side: what was asked differently, and every figure that both have.

A figure is compared only where both jobs measured the same thing in the same way: the same text by the same protocol,
the same items of a task, the same cell, and, for times and memory, on the same machine. All others are listed with the
reason. Reports keep figures and not items, so the judgement rests on each job's own intervals: where these do not
overlap, the figures differ, and where they do, nothing is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from math import isfinite
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from secateur.contract.intervals import Estimate
from secateur.contract.jobs import Verdict
from secateur.contract.metric_row import Metric
from secateur.contract.metrics import METRICS
from secateur.contract.readings import Reading, variants_of
from secateur.contract.report import Report
from secateur.contract.results import Result
from secateur.contract.validation_errors import pointer_of

Which = Literal["job", "other"]
Readings = dict[tuple[str | int, ...], Reading]  # by what they are of

# Parts of a benchmark whose results do not tell all of how they were measured: the settings and the seed do.
_TOLD_BY_SETTINGS = ("generation", "samples")


class ComparedJob(Result):
    """One of the two."""

    job_id: UUID
    created_at: datetime
    model: str = Field(description="Hub id or path.")
    fingerprint: str = Field(description="Of the original's config and tensors.")
    final_variant: str = Field(description="Whose figures are compared.")
    verdict: Verdict
    blocks_removed: list[int] = Field(description="Whole blocks that are gone, by their old numbers.")


class SpecDifference(Result):
    """One place at which the specs differ, defaults filled in."""

    pointer: str = Field(description="JSON pointer into the spec.")
    job: Any = None
    other: Any = None
    only: Which | None = Field(default=None, description="The one that has anything there, where the other has not.")


class Bounds(Result):
    """A value with its 95 % interval."""

    value: float | None = Field(default=None, description="Null where it is no finite number.")
    low: float | None = None
    high: float | None = None


class ComparedFigure(Bounds):
    """A figure of a final variant."""

    against_original: Bounds | None = Field(
        default=None, description="The same against the job's own original, where that was measured in pairs."
    )


class Figures(Result):
    """One row of the table of metrics, of both jobs."""

    metric: str = Field(description="Its name: perplexity.")
    title: str
    of: str = Field(description="The cell, text, task or check that it is of; empty for the whole model.")
    how: str = Field(description="How it was measured; the first job's where the two differ.")


class Compared(Figures):
    """Measured by both in the same way."""

    job: ComparedFigure
    other: ComparedFigure
    difference: float | None = Field(default=None, description="The other's value less the job's.")
    relative: float | None = Field(default=None, description="That as a share of the job's value.")
    interval_of: Literal["value", "against_original"] | None = Field(
        default=None,
        description="Which intervals were held against each other: of what was measured in pairs with the original, "
        "where both have that and began with the same model; else of the values. Null where either has none.",
    )
    overlap: bool | None = Field(default=None, description="Whether these overlap: the figures may then be the same.")
    better: Which | None = Field(
        default=None, description="Null where intervals overlap or are missing, and of equal counts."
    )


class NotCompared(Figures):
    """Measured by one alone, or by both in different ways."""

    job: ComparedFigure | None = None
    other: ComparedFigure | None = None
    why: str


class JobComparison(Result):
    """What differs between two jobs."""

    job: ComparedJob
    other: ComparedJob
    spec: list[SpecDifference]
    figures: list[Compared]
    not_compared: list[NotCompared]
    notes: list[str] = Field(description="What to mind, in words.")


def compare_reports(job: Report, other: Report) -> JobComparison:
    """Everything in which the two differ, by the final variant of each."""
    same_original = job.model.fingerprint == other.model.fingerprint
    compared: list[Compared] = []
    apart: list[NotCompared] = []
    for metric in METRICS.values():
        found, others = readings_of(metric, job), readings_of(metric, other)
        for key in dict.fromkeys([*found, *others]):
            mine, theirs = found.get(key), others.get(key)
            why = why_not_compared(metric, mine, theirs, (job, other), has=(bool(found), bool(others)))
            if why is None and mine is not None and theirs is not None:
                compared.append(_compared(metric, mine, theirs, same_original=same_original))
            else:
                apart.append(
                    NotCompared(
                        **_head(metric, mine or theirs), job=_figure(mine), other=_figure(theirs), why=why or ""
                    )
                )
    return JobComparison(
        job=_side(job),
        other=_side(other),
        spec=list(_differences(job.spec, other.spec)),
        figures=compared,
        not_compared=apart,
        notes=list(_notes(job, other)),
    )


def _side(report: Report) -> ComparedJob:
    return ComparedJob(
        job_id=report.job_id,
        created_at=report.created_at,
        model=report.model.id,
        fingerprint=report.model.fingerprint,
        final_variant=report.final_variant,
        verdict=report.verdict,
        blocks_removed=report.pruned.dropped,
    )


def readings_of(metric: Metric, report: Report) -> Readings:
    """By what they are of; of the variant that the job hands out."""
    final = next((variant for variant in variants_of(report) if variant.name == report.final_variant), None)
    return {} if final is None else {reading.subject.key: reading for reading in metric.read(final)}


# --- whether a figure may be compared -------------------------------------------------------------------------------


def why_not_compared(
    metric: Metric,
    mine: Reading | None,
    theirs: Reading | None,
    reports: tuple[Report, Report],
    *,
    has: tuple[bool, bool] = (True, True),
) -> str | None:
    """Why these two are not the same thing, in words; None where they are. `has`: the metric, of whatever."""
    if mine is None or theirs is None:
        lacks, anything = ("the job", has[0]) if mine is None else ("the other job", has[1])
        return f"{lacks} measured it on something else" if anything else f"{lacks} did not measure it"
    if mine.subject.protocol != theirs.subject.protocol:
        return "measured in different ways: " + " against ".join(
            ", ".join(map(str, reading.subject.protocol)) for reading in (mine, theirs)
        )
    job, other = reports
    part = metric.measured_by
    if part in _TOLD_BY_SETTINGS and _settings(job, part) != _settings(other, part):
        return f"the settings in /benchmark/{part} or the seeds differ, and so do the prompts or the answers' lengths"
    if metric.section.of_machine and machine_of(job) != machine_of(other):
        return f"measured on different machines: {machine_of(job)} against {machine_of(other)}"
    return None


def _settings(report: Report, part: str) -> tuple[Any, ...]:
    return report.spec.get("benchmark", {}).get(part), report.spec.get("seed")


def machine_of(report: Report) -> str:
    """What times and memory depend on."""
    at = report.benchmarks.environment
    return f"{at.device_name}, {at.dtype}, {at.threads} threads"


# --- how it compares ------------------------------------------------------------------------------------------------


def _head(metric: Metric, reading: Reading | None) -> dict[str, str]:
    assert reading is not None, "one of the two has it"
    subject = reading.subject
    of = ", ".join(part for part in (subject.place, subject.label) if part)
    how = "; ".join(part for part in (metric.how, subject.how, subject.measured) if part)
    return {"metric": metric.name, "title": metric.title, "of": of, "how": how}


def _compared(metric: Metric, mine: Reading, theirs: Reading, *, same_original: bool) -> Compared:
    difference = theirs.value - mine.value
    pairs: tuple[Estimate | None, Estimate | None] = (mine.compared, theirs.compared)
    interval_of: Literal["value", "against_original"] | None = None
    overlap = _overlap(*pairs) if same_original else None
    if overlap is not None:
        interval_of = "against_original"
    else:
        overlap = _overlap(mine, theirs)
        interval_of = None if overlap is None else "value"
    better: Which | None = None
    if difference and (metric.exact or overlap is False):
        better = "other" if (difference > 0) == (metric.better == "higher") else "job"
    relative = difference / mine.value if mine.value else None
    return Compared(
        **_head(metric, mine),
        job=_figure(mine),
        other=_figure(theirs),
        difference=_finite(difference),
        relative=_finite(relative),
        interval_of=interval_of,
        overlap=overlap,
        better=better,
    )


def _overlap(one: Reading | Estimate | None, two: Reading | Estimate | None) -> bool | None:
    """None where either has no interval."""
    if one is None or two is None or one.low is None or one.high is None or two.low is None or two.high is None:
        return None
    return one.low <= two.high and two.low <= one.high


def _figure(reading: Reading | None) -> Any:
    if reading is None:
        return None
    paired = reading.compared
    return ComparedFigure(
        value=_finite(reading.value),
        low=_finite(reading.low),
        high=_finite(reading.high),
        against_original=None
        if paired is None
        else Bounds(value=_finite(paired.value), low=_finite(paired.low), high=_finite(paired.high)),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


# --- what was asked, and what to mind -------------------------------------------------------------------------------


def _differences(job: Any, other: Any, path: tuple[str | int, ...] = ()) -> Iterator[SpecDifference]:
    """Place by place; a list is one value unless both are as long and hold objects."""
    if isinstance(job, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*job, *other]):
            here = (*path, key)
            if key not in other:
                yield SpecDifference(pointer=pointer_of(here), job=job[key], only="job")
            elif key not in job:
                yield SpecDifference(pointer=pointer_of(here), other=other[key], only="other")
            else:
                yield from _differences(job[key], other[key], here)
    elif _objects(job) and _objects(other) and len(job) == len(other):
        for index, (mine, theirs) in enumerate(zip(job, other, strict=True)):
            yield from _differences(mine, theirs, (*path, index))
    elif job != other:
        yield SpecDifference(pointer=pointer_of(path), job=job, other=other)


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _notes(job: Report, other: Report) -> Iterator[str]:
    if job.model.fingerprint != other.model.fingerprint:
        yield "The two began with different models: what is given against the original is against each one's own."
    if machine_of(job) != machine_of(other):
        yield (
            f"Measured on different machines, so times and memory are not compared: {machine_of(job)} against "
            f"{machine_of(other)}."
        )
    versions = [report.benchmarks.environment.versions for report in (job, other)]
    for package in ("secateur", "torch", "transformers"):
        mine, theirs = (version.get(package) for version in versions)
        if mine != theirs:
            yield f"Measured with {package} {mine or 'of an unknown version'} against {theirs or 'an unknown one'}."
