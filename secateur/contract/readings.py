"""How figures are read off a variant: what each reader of the table of metrics (`metrics.py`) gives.

A variant may have a figure several times: for each cell of the latency grid, each text, each task. So a reader gives
readings, each with its subject. Readings of two variants may be compared where their subjects' keys are equal, and
never otherwise: perplexities of different windows are different things. Between two jobs their protocols must be equal
too, such as the number of a task's items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from secateur.contract.intervals import Estimate
from secateur.contract.measurements import (
    RECOVERED_FILE,
    DraftFigures,
    EngineCell,
    Fidelity,
    GenerationScore,
    Interval,
    LatencyCell,
    Measurement,
    Memory,
    Perplexity,
    SampleFigures,
    TaskScore,
)
from secateur.contract.numbers import PERCENT, significant
from secateur.contract.report import Report
from secateur.contract.results import TextInfo


@dataclass(frozen=True)
class Subject:
    """What a reading is of. All words are plain text, of strangers too: not escaped, and of any length."""

    key: tuple[str | int, ...] = ()
    place: str = ""  # what a group of figures shares: "batch 1, 12 + 128 tokens", a text's description
    measured: str = ""  # how all of the place was measured
    label: str = ""  # in the place of the metric's title: a task
    how: str = ""  # beyond what the metric says of itself: a perplexity's protocol
    phrase: str = ""  # within a sentence: " on news.txt"
    protocol: tuple[str, ...] = ()  # how it was measured, in words: within a job the same, between two it may differ


WHOLE = Subject()  # the model, of which there is one


@dataclass(frozen=True)
class Reading:
    """One figure of one variant."""

    value: float
    low: float | None = None  # 95 % interval
    high: float | None = None
    compared: Estimate | None = None  # with the original, where that was measured in pairs and not just computed
    subject: Subject = WHOLE
    note: str = ""  # what there is in an interval's place
    counts: bool = True  # whether gates and short tables read it: of a task with several filters, the first's alone


@dataclass(frozen=True)
class VariantFile:
    """The one file that a variant came or goes as."""

    bytes: int
    how: str = ""


@dataclass(frozen=True)
class Variant:
    """A variant, as figures are read off it."""

    measured: Measurement
    file: VariantFile | None = None
    unpacked: bool = False  # whether its weights on disk are unpacked from the file that the model came as

    @property
    def name(self) -> str:
        return self.measured.variant


Reader = Callable[[Variant], list[Reading]]


def variants_of(report: Report) -> list[Variant]:
    """All that was measured, the original first."""
    came = report.model.file
    files: dict[str, VariantFile] = {}
    if came is not None:
        files["original"] = VariantFile(came.bytes, f"came in {came.type}")
        recovered = report.recovered.gguf if report.recovered else None
        made = {"pruned": report.pruned.gguf, "recovered": recovered, RECOVERED_FILE: recovered}
        files |= {name: VariantFile(file.bytes_after) for name, file in made.items() if file is not None}
    final = "recovered" if report.recovered else "pruned"
    quantised = report.quantised.variants if report.quantised else []
    files |= {f"{final}-{way.name}": VariantFile(way.file_bytes) for way in quantised if way.file_bytes is not None}
    unpacked = ("original", "pruned", "recovered") if came is not None else ()  # others are what they are on disk
    return [Variant(m, files.get(m.variant), m.variant in unpacked) for m in report.benchmarks.variants]


# --- of the whole model -----------------------------------------------------------------------------------------------


def counted(read: Callable[[Measurement], int]) -> Reader:
    """A count that every measurement has."""
    return lambda variant: [Reading(read(variant.measured))]


def file_size(variant: Variant) -> list[Reading]:
    if variant.file is None:
        return []
    return [Reading(variant.file.bytes, subject=Subject(how=variant.file.how))]


def weights_on_disk(variant: Variant) -> list[Reading]:
    subject = Subject(how="unpacked", phrase=" (unpacked)") if variant.unpacked else WHOLE
    return [Reading(variant.measured.bytes_on_disk, subject=subject)]


def in_memory(read: Callable[[Memory], int | None]) -> Reader:
    """A figure of memory, where memory was measured."""

    def readings(variant: Variant) -> list[Reading]:
        memory = variant.measured.memory
        value = read(memory) if memory is not None else None
        if memory is None or value is None:
            return []
        grid = [cell_name(cell) for cell in variant.measured.latency]
        subject = Subject(measured=f"peak: {memory.measured_as}", protocol=(memory.measured_as, *grid))
        return [Reading(value, subject=subject)]

    return readings


# --- of each cell of the latency grid ---------------------------------------------------------------------------------


def in_cells(read: Callable[[LatencyCell], Interval | float | None]) -> Reader:
    """A figure of each cell that has it, in the order of measuring: the first is the one that a job is about."""

    def readings(variant: Variant) -> Iterator[Reading]:
        for cell in variant.measured.latency:
            found = read(cell)
            if isinstance(found, Interval):
                yield Reading(found.median, found.low, found.high, subject=_cell(cell))
            elif found is not None:
                yield Reading(found, subject=_cell(cell))

    return lambda variant: list(readings(variant))


def under(
    cells: Callable[[Measurement], list[EngineCell]], read: Callable[[EngineCell], Interval | float | None]
) -> Reader:
    """A figure of each cell that was timed under an engine."""

    def readings(variant: Variant) -> Iterator[Reading]:
        for cell in cells(variant.measured):
            found = read(cell)
            if isinstance(found, Interval):
                yield Reading(found.median, found.low, found.high, subject=_engine_cell(cell))
            elif found is not None:
                yield Reading(found, subject=_engine_cell(cell))

    return lambda variant: list(readings(variant))


def _engine_cell(cell: EngineCell) -> Subject:
    against = f", against {cell.against}" if cell.against else ""
    place = f"{cell_name(cell)}{against}"
    how = f"{cell.build}; median of {cell.runs} runs, the variants in turn, with 95 % bootstrap intervals"
    key = (cell.against, cell.batch_size, cell.input_tokens, cell.output_tokens)
    return Subject(key, place=place, measured=how, phrase=f" ({place})", protocol=(cell.build,))


def bytes_per_second(variant: Variant) -> list[Reading]:
    """Tokens per second in bytes of text, by the tokens that the first text takes."""
    first = next(iter(variant.measured.bits_per_byte), None)
    if first is None:
        return []
    size, found = 1 / first.tokens_per_byte, in_cells(lambda cell: cell.tokens_per_second)(variant)
    return [
        Reading(
            size * reading.value,
            None if reading.low is None else size * reading.low,
            None if reading.high is None else size * reading.high,
            subject=reading.subject,
        )
        for reading in found
    ]


def cell_name(cell: LatencyCell | EngineCell) -> str:
    """Which cell of the latency grid: "batch 1, 12 + 128 tokens"."""
    return f"batch {cell.batch_size}, {cell.input_tokens} + {cell.output_tokens} tokens"


def _cell(cell: LatencyCell) -> Subject:
    name = cell_name(cell)
    how = f"median of {cell.runs} runs, the variants in turn, with 95 % bootstrap intervals"
    how += "; compiled by torch.compile after the first token" if cell.compiled else ""
    how += "; static cache, allocated before the timing" if cell.static_cache else ""
    key = (cell.batch_size, cell.input_tokens, cell.output_tokens)
    made = ("compiled" if cell.compiled else "not compiled", f"{'static' if cell.static_cache else 'growing'} cache")
    return Subject(key, place=name, measured=how, phrase=f" ({name})", protocol=made)


# --- of each text -----------------------------------------------------------------------------------------------------


def on_texts(read: Callable[[Fidelity], tuple[float | None, float | None, float | None]]) -> Reader:
    """A figure of the distance from the original with its interval, on each text that has it."""

    def readings(variant: Variant) -> Iterator[Reading]:
        for found in variant.measured.fidelity:
            value, low, high = read(found)
            if value is not None:
                yield Reading(value, low, high, subject=_text(found.text))

    return lambda variant: list(readings(variant))


def perplexities(variant: Variant) -> list[Reading]:
    """Of each text and protocol, with the ratio to the original's on the same windows."""
    return [_perplexity(found) for found in variant.measured.perplexity]


def _perplexity(found: Perplexity) -> Reading:
    ratio = None if found.ratio is None else Estimate(found.ratio, found.ratio_low, found.ratio_high)
    return Reading(found.value, found.low, found.high, ratio, _text(found.text, protocol=found.protocol))


def bits_per_byte(variant: Variant) -> list[Reading]:
    """Of each text, with the rise over the original's on the same windows."""
    return [
        Reading(
            found.value,
            found.low,
            found.high,
            None if found.rise is None else Estimate(found.rise, found.rise_low, found.rise_high),
            _text(found.text, protocol=found.protocol),
        )
        for found in variant.measured.bits_per_byte
    ]


def tokens_per_byte(variant: Variant) -> list[Reading]:
    """What each text costs in tokens."""
    return [
        Reading(found.tokens_per_byte, subject=_text(found.text, protocol=found.protocol))
        for found in variant.measured.bits_per_byte
    ]


def text_amount(text: TextInfo) -> str:
    """How much of a text was used: "40 × 128 tokens"."""
    return f"{text.samples:,} × {text.tokens:,} tokens"


def _text(text: TextInfo, *, protocol: str = "") -> Subject:
    return Subject(
        (text.sha256, protocol),
        place=text.description,
        measured=f"{text_amount(text)}, with 95 % intervals",
        how=protocol,
        phrase=f" on {text.description}",
    )


# --- of what is generated ---------------------------------------------------------------------------------------------


def exact_matches(variant: Variant) -> list[Reading]:
    """Of all checks together and of each, with what was lost against the original on the same prompts."""
    found = []
    for score in variant.measured.generation:
        drop = None if score.drop is None else Estimate(score.drop, score.drop_low, score.drop_high)
        note = _error_and_p(score.standard_error, score.p_value)
        subject = _check(score, "Exact")
        found.append(Reading(score.exact, compared=drop, subject=subject, note=note, counts=score.headline))
    return found


def same_answers(variant: Variant) -> list[Reading]:
    """How many of the answers are the original's, of all checks together and of each."""
    return [
        Reading(
            score.agreement,
            score.agreement_low,
            score.agreement_high,
            subject=_check(score, "Same"),
            counts=score.headline,
        )
        for score in variant.measured.generation
        if score.agreement is not None
    ]


def _check(score: GenerationScore, short: str) -> Subject:
    form = "by the chat template" if score.chat else "as plain text"
    prompts = f"{score.prompts:,} prompt{'' if score.prompts == 1 else 's'}"
    return Subject(
        (score.check,),
        measured=form,
        label="" if score.headline else f"{short}, {score.check}",
        how=prompts,
        phrase=f" ({prompts})" if score.headline else "",
        protocol=(prompts, form),
    )


def in_samples(read: Callable[[SampleFigures], tuple[float | None, float | None, float | None]]) -> Reader:
    """A figure of the samples with its interval, where samples were written."""

    def readings(variant: Variant) -> list[Reading]:
        found = variant.measured.sampled
        value, low, high = read(found) if found is not None else (None, None, None)
        if found is None or value is None:
            return []
        form = "by the chat template" if found.chat else "as plain text"
        count = f"{found.samples:,} sample{'' if found.samples == 1 else 's'}"
        subject = Subject(measured=f"{count}, {form}, with 95 % intervals", protocol=(count, form))
        return [Reading(value, low, high, subject=subject)]

    return readings


# --- of each task -----------------------------------------------------------------------------------------------------


def accuracies(variant: Variant) -> list[Reading]:
    """Of each task and filter, with what was lost against the original on the same items."""
    return [_accuracy(score) for score in variant.measured.tasks]


def _accuracy(score: TaskScore) -> Reading:
    drop = None if score.drop is None else Estimate(score.drop, score.drop_low, score.drop_high)
    shots = "zero-shot" if score.few_shot == 0 else f"{score.few_shot}-shot"
    protocol = (f"{score.items:,} item{'' if score.items == 1 else 's'}", shots, f"version {score.version}")
    subject = Subject(
        (score.task, score.metric, score.filter),
        label=score.task if score.filter == "none" else f"{score.task}, {score.filter}",
        how=", ".join((score.metric, *protocol)),
        phrase=f" on {score.task}",
        protocol=protocol,
    )
    note = _error_and_p(score.standard_error, score.p_value)
    return Reading(score.value, compared=drop, subject=subject, note=note, counts=score.headline)


def _error_and_p(standard_error: float | None, p_value: float | None) -> str:
    notes = [] if standard_error is None else [f"± {PERCENT.write(standard_error)}"]
    if p_value is not None:
        notes.append(f"p {significant(p_value, 2)}")
    return ", ".join(notes)


# --- as a draft -------------------------------------------------------------------------------------------------------


def as_draft(read: Callable[[DraftFigures], Interval | tuple[float, float | None, float | None] | float]) -> Reader:
    """A figure of the variant as a draft, where it was measured as one."""

    def readings(variant: Variant) -> list[Reading]:
        found = variant.measured.draft
        if found is None:
            return []
        value = read(found)
        if isinstance(value, Interval):
            value = (value.median, value.low, value.high)
        spread = value if isinstance(value, tuple) else (value, None, None)
        form = "by the chat template" if found.chat else "as plain text"
        drafted = f"{found.tokens} token{'' if found.tokens == 1 else 's'} at a time"
        prompts = f"{found.prompts} prompts, {form}, up to {found.max_new_tokens:,} new tokens"
        how = f"greedy, {drafted}; {prompts}, {found.runs} timed runs of each, in turn with the target alone"
        return [Reading(*spread, subject=Subject(measured=how, protocol=(drafted, prompts)))]

    return readings
