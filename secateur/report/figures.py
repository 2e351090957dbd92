"""A report's figures as rows of text, read off the table of metrics: what every form of the report shows.

A row has a cell per variant, the original first. It also says how its figures were measured, so that no number
stands alone. All words are plain text, not yet escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from secateur.contract import numbers as n
from secateur.contract.metric_row import Metric, Section
from secateur.contract.metrics import METRICS
from secateur.contract.readings import Reading, Subject, Variant, variants_of
from secateur.contract.report import Report
from secateur.report.text import one_line


@dataclass(frozen=True)
class Cell:
    """One figure of one variant."""

    value: str
    change: str = ""  # against the original, signed
    interval: str = ""  # 95 %

    @property
    def beside(self) -> str:
        """All that stands beside the value where there is one line for it."""
        return ", ".join(part for part in (self.change, self.interval) if part)


NOT_MEASURED = Cell(n.MISSING)


@dataclass(frozen=True)
class Row:
    label: str
    how: str  # what exactly is counted or timed
    cells: tuple[Cell, ...]  # one per variant
    short: bool = False  # whether it stands in short tables too


@dataclass(frozen=True)
class Group:
    """Rows that were measured in one go, such as everything timed at one batch size."""

    title: str  # "Speed"
    place: str  # "batch 1, 12 + 128 tokens": what sets it apart from others of its title; may be empty
    how: str  # how all of it was measured
    rows: tuple[Row, ...]

    @property
    def heading(self) -> str:
        return f"{self.title}, {self.place}" if self.place else self.title


@dataclass(frozen=True)
class Headline:
    """One of the few figures that a reader should see first, of the final variant."""

    metric: str  # its name
    label: str
    value: str
    detail: str
    number: float  # what is judged: by which jobs are put in order


def groups(report: Report) -> list[Group]:
    """All figures of the report; what was not measured on any variant is left out."""
    variants = variants_of(report)
    sections: dict[Section, list[Metric]] = {}
    for metric in METRICS.values():
        sections.setdefault(metric.section, []).append(metric)
    return [group for section, metrics in sections.items() for group in _section(section, metrics, variants)]


def _section(section: Section, metrics: Sequence[Metric], variants: Sequence[Variant]) -> Iterator[Group]:
    """A group for each place, such as a cell or a text."""
    read = {metric.name: [metric.read(variant) for variant in variants] for metric in metrics}
    subjects = [reading.subject for rows in read.values() for readings in rows for reading in readings]
    for place in dict.fromkeys(subject.place for subject in subjects):
        rows = [row for metric in metrics for row in _rows(metric, read[metric.name], place)]
        here = next((subject for subject in subjects if subject.place == place and subject.measured), None)
        how = "; ".join(part for part in (here.measured if here else "", section.how) if part)
        yield Group(section.title, one_line(place), how, tuple(rows))


def _rows(metric: Metric, read: Sequence[Sequence[Reading]], place: str) -> Iterator[Row]:
    """A row for each subject: perplexities of different windows must not be compared."""
    subjects: dict[tuple[str | int, ...], Subject] = {}
    for readings in read:
        for reading in readings:
            subjects.setdefault(reading.subject.key, reading.subject)
    for number, (key, subject) in enumerate(subjects.items()):
        if subject.place != place:
            continue
        found = [next((r for r in readings if r.subject.key == key), None) for readings in read]
        cells = tuple(_cell(metric, reading, found[0], is_original=not i) for i, reading in enumerate(found))
        short = metric.short and all(reading.counts for reading in found if reading)
        short = short and (metric.several != "first" or number == 0)
        how = ", ".join(part for part in (metric.how, subject.how) if part)
        yield Row(one_line(subject.label or metric.title), one_line(how), cells, short)


def _cell(metric: Metric, reading: Reading | None, original: Reading | None, *, is_original: bool) -> Cell:
    if reading is None:
        if is_original and metric.at_original is not None:
            return Cell(metric.format.typed(metric.at_original))
        return NOT_MEASURED
    compared = None if is_original else metric.compared(reading, original)
    return Cell(
        metric.format.write(reading.value),
        metric.compares.write(compared.value) if metric.compares and compared else "",
        reading.note or metric.format.span(reading.low, reading.high),
    )


def headlines(report: Report) -> list[Headline]:
    """The final variant's first figures, each on its worst text; those that were measured."""
    variants = variants_of(report)
    final = next((variant for variant in variants if variant.name == report.final_variant), None)
    if final is None:
        return []
    found = (_headline(metric, final, variants[0]) for metric in METRICS.values() if metric.headline)
    return [headline for headline in found if headline is not None]


def _headline(metric: Metric, variant: Variant, original: Variant) -> Headline | None:
    judged = metric.judged(variant)
    if not judged:
        return None
    worst = metric.worst(judged)
    written = metric.judged_format
    value, interval = written.write(worst.value), written.span(worst.low, worst.high)
    if metric.judges == "value" and interval and metric.unit:
        interval = f"{interval} {metric.unit}"
    key = worst.reading.subject.key if worst.reading else None
    before = next((reading for reading in metric.read(original) if reading.subject.key == key), None)
    change = ""
    if metric.compares and worst.reading and before:
        change = f"{metric.format.write(before.value)} → {metric.format.write(worst.reading.value)}"
        if metric.judges == "value":
            value = metric.compares.write(metric.compares.of(worst.value, before.value))
    detail = ", ".join(part for part in (interval, change) if part) + worst.phrase
    return Headline(metric.name, metric.label, value, one_line(detail), worst.value)
