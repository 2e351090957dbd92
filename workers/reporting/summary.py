"""The report's figures as rows of text: what the HTML table, the Markdown table and the model card all show.

A row has a cell per variant, the original first. It also says how its figures were measured, so that no number
stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from secateur.contract.options.pruning.sub_block import HALVES
from secateur.contract.results import (
    HealedCut,
    Interval,
    LatencyCell,
    Measurement,
    Pruned,
    PrunedFile,
    QuantisedVariant,
    Report,
    Schedule,
    TaskScore,
    TextInfo,
)
from workers.reporting import numbers as n
from workers.reporting.notes import measurement, paired_perplexity
from workers.reporting.text import block_list, one_line, plural

_HALF_WORDS = {"attention": "attention", "mlp": "MLP"}


@dataclass(frozen=True)
class Cell:
    """One figure of one variant; all parts are plain text, not yet escaped."""

    value: str
    change: str = ""  # against the original, signed
    interval: str = ""  # 95 %


NOT_MEASURED = Cell(n.MISSING)


@dataclass(frozen=True)
class Row:
    label: str
    how: str  # what exactly is counted or timed
    cells: tuple[Cell, ...]  # one per variant
    key: bool = False  # whether it stands in compact tables too


@dataclass(frozen=True)
class Group:
    """Rows that were measured in one go, such as everything timed at one batch size."""

    title: str  # "Speed"
    subject: str  # "batch 1, 12 + 128 tokens": what sets it apart from others of its title; may be empty
    how: str  # how all of it was measured
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Headline:
    """One of the few figures that a reader should see first, of the final variant."""

    label: str
    value: str
    detail: str


def groups(report: Report) -> list[Group]:
    """All figures of the report; what was not measured on any variant is left out."""
    variants = report.benchmarks.variants
    return [_size(report), *_speed(variants), *_memory(variants), *_quality(variants), *_tasks(variants)]


def headlines(report: Report) -> list[Headline]:
    """Speedup, size, and distance from the original on the worst text, of the final variant: what was measured."""
    final, original = measurement(report, report.final_variant), report.benchmarks.variants[0]
    if final is None:
        return []
    found = []
    if final.latency and (speedup := final.latency[0].speedup):
        detail = f"{n.span(speedup.low, speedup.high)}, {cell_name(final.latency[0])}"
        found.append(Headline("Speedup", n.ratio(speedup.median), detail))
    detail = f"{n.short_count(original.parameters)} → {n.short_count(final.parameters)}"
    found.append(Headline("Parameters", n.change(final.parameters, original.parameters), detail))
    if final.fidelity:
        worst = max(final.fidelity, key=lambda figure: figure.kl)
        detail = f"nats per token from the original on {one_line(worst.text.description, limit=60)}"
        found.append(Headline("KL divergence", n.significant(worst.kl), detail))
    if pairs := paired_perplexity(original, final):
        before, after = max(pairs, key=lambda pair: pair[1].value / pair[0].value)
        where = one_line(after.text.description, limit=60)
        detail = f"{n.significant(before.value)} → {n.significant(after.value)} on {where}"
        found.append(Headline("Perplexity", n.ratio(after.value / before.value), detail))
    return found


def change_in_words(report: Report) -> str:
    """What was removed: "6 of 30 blocks removed", "heads and neurons removed from 30 blocks"."""
    pruned = report.pruned
    if pruned.units:
        total = len(HALVES) * pruned.model.blocks
        return f"{len(pruned.units)} of {total} halves of blocks removed ({_halves_counted(pruned)})"
    if pruned.dropped:
        return f"{len(pruned.dropped)} of {plural(pruned.model.blocks, 'block')} removed"
    return f"heads and neurons removed in {plural(pruned.model.blocks, 'block')}"


def schedule_in_words(schedule: Schedule) -> str:
    """What the learning rate did: "up to 0.0002 in 10 of 128 steps, then a cosine fall"."""
    fall = f"then a {schedule.shape} fall"
    if schedule.reached < schedule.learning_rate:
        fall = f"of which {schedule.reached:.3g} was reached"
    return f"up to {schedule.learning_rate:g} in {schedule.warmup_steps:,} of {plural(schedule.steps, 'step')}, {fall}"


def cut_in_words(cut: HealedCut) -> str:
    """What a healing map did for the cut that it was fitted for: "folded in, KL 2.04 → 1.18 on held-out samples"."""
    what = "folded in," if cut.folded else "no map folded in, since the best one gave"
    return f"{what} KL {cut.kl_before:.3g} → {cut.kl_after:.3g} on held-out samples"


def gguf_in_words(file: PrunedFile) -> str:
    """What became of the file that the model came in: "prune/m-pruned.gguf, 98.9 MB → 80.1 MB (−19.0 %), …"."""
    sizes = (
        f"{n.size(file.bytes_before)} → {n.size(file.bytes_after)} ({n.change(file.bytes_after, file.bytes_before)})"
    )
    return f"prune/{one_line(file.path)}, {sizes}, still quantised as it was; of the pruned model, before any recovery"


def units_in_words(pruned: Pruned) -> str:
    """The halves that are gone: "attention of blocks 3, 5–7; MLP of block 9"."""
    return "; ".join(
        f"{_HALF_WORDS[half]} of block{'s' if len(blocks) > 1 else ''} {block_list(blocks)}"
        for half, blocks in _by_half(pruned).items()
    )


def _halves_counted(pruned: Pruned) -> str:
    """ "5 attention, 2 MLP, 1 block whole"."""
    words = [f"{len(blocks)} {_HALF_WORDS[half]}" for half, blocks in _by_half(pruned).items()]
    if pruned.dropped:
        words.append(f"{plural(len(pruned.dropped), 'block')} whole")
    return ", ".join(words)


def _by_half(pruned: Pruned) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for half in HALVES:
        blocks = [int(unit.partition(".")[0]) for unit in pruned.units if unit.endswith(f".{half}")]
        if blocks:
            found[half] = blocks
    return found


def widths_in_words(pruned: Pruned) -> str:
    """What a width-pruned model has left: "6 heads (2 key-value heads) and 1,200 neurons in each block"."""
    heads, shared, neurons = (
        _range([getattr(width, name) for width in pruned.widths]) for name in ("heads", "key_value_heads", "neurons")
    )
    grouped = "" if heads == shared else f" ({shared} key-value heads)"
    each = "each block" if len(set(pruned.widths)) == 1 else "a block"
    return f"{heads} heads{grouped} and {neurons} neurons in {each}"


def quantised_in_words(variant: QuantisedVariant) -> str:
    """How exact it is, and how small: "quantised 79.0 % of the parameters to 8.25 bits each …"."""
    part = variant.quantised_parameters / max(1, variant.quantised_parameters + variant.other_parameters)
    chosen = f", chosen on {text_amount(variant.text)}" if variant.text else ""
    return (
        f"quantised {n.percent(part)} of the parameters to {n.significant(variant.bits_per_weight)} bits each, "
        f"with an error of {n.percent(variant.relative_error)} of their norm{chosen}"
    )


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def cell_name(cell: LatencyCell) -> str:
    """Which cell of the latency grid: "batch 1, 12 + 128 tokens"."""
    return f"batch {cell.batch_size}, {cell.input_tokens} + {cell.output_tokens} tokens"


def text_amount(text: TextInfo) -> str:
    """How much of a text was used: "40 × 128 tokens"."""
    return f"{text.samples:,} × {text.tokens:,} tokens"


def _size(report: Report) -> Group:
    variants = report.benchmarks.variants
    first = variants[0]
    parameters = [
        Cell(n.count(m.parameters), "" if m is first else n.change(m.parameters, first.parameters)) for m in variants
    ]
    disk = [
        Cell(n.size(m.bytes_on_disk), "" if m is first else n.change(m.bytes_on_disk, first.bytes_on_disk))
        for m in variants
    ]
    rows = (
        Row("Parameters", "tied weights counted once", tuple(parameters), key=True),
        Row("Blocks", "", tuple(Cell(n.count(m.blocks)) for m in variants)),
        *_files(report),
        Row("Weights on disk", "unpacked" if report.model.file else "", tuple(disk), key=not report.model.file),
    )
    return Group("Size", "", "counted in the checkpoint's files; 1 MB is 10⁶ bytes", rows)


def _files(report: Report) -> list[Row]:
    """The file that the model came in, and what is handed out of its kind."""
    came = report.model.file
    if came is None:
        return []
    made = {"pruned": report.pruned.gguf, "recovered": report.recovered.gguf if report.recovered else None}
    cells = [Cell(n.size(came.bytes), "")]
    for variant in report.benchmarks.variants[1:]:
        file = made.get(variant.variant)
        cells.append(Cell(n.size(file.bytes_after), n.change(file.bytes_after, came.bytes)) if file else Cell("", ""))
    return [Row("GGUF file", f"came in {came.type}", tuple(cells), key=True)]


def recovered_file_in_words(file: PrunedFile) -> str:
    """The recovered model as it came: "recover/gguf/m-recovered.gguf, 98.9 MB → 80.1 MB (−19.0 %), …"."""
    sizes = (
        f"{n.size(file.bytes_before)} → {n.size(file.bytes_after)} ({n.change(file.bytes_after, file.bytes_before)})"
    )
    return f"recover/{one_line(file.path)}, {sizes}, quantised anew after recovery"


def _speed(variants: list[Measurement]) -> Iterator[Group]:
    for index, cell in enumerate(_grid(variants)):
        key = (cell.batch_size, cell.input_tokens, cell.output_tokens)
        found = [_latency(m, key) for m in variants]
        rows = []
        if any(c and c.speedup for c in found):
            speedups = [
                Cell("1×") if m is variants[0] else _interval(c.speedup if c else None, n.ratio)
                for m, c in zip(variants, found, strict=True)
            ]
            rows.append(Row("Speedup", "median of paired ratios", tuple(speedups), key=index == 0))
        parts: tuple[tuple[str, Callable[[LatencyCell], Interval], Callable[[float], str], bool], ...] = (
            ("Tokens per second", lambda c: c.tokens_per_second, n.significant, index == 0),
            ("Time per generation", lambda c: c.seconds, n.seconds, False),
            ("Time to first token", lambda c: c.time_to_first_token, n.seconds, False),
            ("Time per output token", lambda c: c.time_per_output_token, n.seconds, False),
        )
        for label, read, write, compact in parts:
            base = found[0]
            cells = [
                _interval(
                    read(c) if c else None,
                    write,
                    "" if c is None or base is None or c is base else n.change(read(c).median, read(base).median),
                )
                for c in found
            ]
            rows.append(Row(label, "", tuple(cells), key=compact))
        yield Group("Speed", cell_name(cell), _how_timed(cell, found), tuple(rows))


def _how_timed(cell: LatencyCell, found: list[LatencyCell | None]) -> str:
    how = f"median of {plural(cell.runs, 'run')}, the variants in turn; below: 95 % bootstrap intervals"
    how += "; compiled by torch.compile after the first token" if cell.compiled else ""
    how += "; static cache, allocated before the timing" if cell.static_cache else ""
    noise = [c.noise for c in found if c and c.noise is not None]
    return f"{how}; the original against itself differs by up to {n.percent(max(noise))}" if noise else how


def _memory(variants: list[Measurement]) -> Iterator[Group]:
    known = [m.memory for m in variants if m.memory]
    if not known:
        return
    first = variants[0].memory
    rows = []
    for label, how, field, key in (
        ("Weights in memory", "parameters and buffers", "weights", False),
        ("Peak memory", "while generating", "peak", True),
        ("KV cache per token", "of one sequence", "kv_bytes_per_token", False),
    ):
        cells = []
        for m in variants:
            if m.memory is None:
                cells.append(NOT_MEASURED)
                continue
            value = getattr(m.memory, field)
            change = "" if first is None or m is variants[0] else n.change(value, getattr(first, field))
            cells.append(Cell(n.size(value), change))
        rows.append(Row(label, how, tuple(cells), key=key))
    largest = [m.memory.largest_batch if m.memory else None for m in variants]
    if any(size is not None for size in largest):
        shown = tuple(NOT_MEASURED if size is None else Cell(n.count(size)) for size in largest)
        rows.append(Row("Largest batch", "sequences of the first cell that fit at a time, largest found", shown))
    yield Group("Memory", "", f"peak: {known[0].measured_as}", tuple(rows))


def _quality(variants: list[Measurement]) -> Iterator[Group]:
    """A group for each text."""
    texts: dict[str, TextInfo] = {}
    for m in variants:
        for text in [*(f.text for f in m.fidelity), *(p.text for p in m.perplexity)]:
            texts.setdefault(text.sha256, text)
    for sha256, text in texts.items():
        rows = [*_fidelity(variants, sha256), *_perplexity(variants, sha256)]
        yield Group("Quality", one_line(text.description), f"{text_amount(text)}; below: 95 % intervals", tuple(rows))


def _fidelity(variants: list[Measurement], sha256: str) -> Iterator[Row]:
    found = [next((f for f in m.fidelity if f.text.sha256 == sha256), None) for m in variants]
    if not any(found):
        return
    divergence, agreement = [], []
    for index, f in enumerate(found):
        if f is None:  # the original is at no distance from itself
            divergence.append(NOT_MEASURED if index else Cell("0"))
            agreement.append(NOT_MEASURED if index else Cell("100 %"))
            continue
        divergence.append(Cell(n.significant(f.kl), "", n.span(f.kl_low, f.kl_high)))
        ends = (f.top1_agreement_low, f.top1_agreement_high)
        spread = " to ".join(n.percent(end) for end in ends if end is not None)
        agreement.append(Cell(n.percent(f.top1_agreement), "", spread))
    yield Row("KL divergence", "nats per token, KL(original ‖ variant)", tuple(divergence), key=True)
    yield Row("Top-1 agreement", "positions where both rank the same token first", tuple(agreement), key=True)


def _perplexity(variants: list[Measurement], sha256: str) -> Iterator[Row]:
    """A row for each protocol: perplexities of different windows must not be compared."""
    protocols = dict.fromkeys(p.protocol for m in variants for p in m.perplexity if p.text.sha256 == sha256)
    for protocol in protocols:
        found = [
            next((p for p in m.perplexity if p.text.sha256 == sha256 and p.protocol == protocol), None)
            for m in variants
        ]
        base, cells = found[0], []
        for p in found:
            if p is None:
                cells.append(NOT_MEASURED)
                continue
            change = "" if base is None or p is base else n.change(p.value, base.value)
            cells.append(Cell(n.significant(p.value), change, n.span(p.low, p.high)))
        yield Row("Perplexity", protocol, tuple(cells), key=True)


def _tasks(variants: list[Measurement]) -> Iterator[Group]:
    """A row for each task; the drop is judged on the items that both variants answered."""
    rows = []
    for first in variants[0].tasks:
        cells = []
        for m in variants:
            score = next((s for s in m.tasks if _same_task(s, first)), None)
            if score is None:
                cells.append(NOT_MEASURED)
                continue
            change = "" if score.drop is None else n.points(score.value, first.value)
            error = "" if score.standard_error is None else f"± {n.percent(score.standard_error)}"
            judged = "" if score.p_value is None else f"p {n.significant(score.p_value, 2)}"
            cells.append(Cell(n.percent(score.value), change, ", ".join(part for part in (error, judged) if part)))
        shots = "zero-shot" if first.few_shot == 0 else f"{first.few_shot}-shot"
        how = f"{first.metric}, {plural(first.items, 'item')}, {shots}, version {one_line(first.version)}"
        label = first.task if first.filter == "none" else f"{first.task}, {first.filter}"
        rows.append(Row(one_line(label), how, tuple(cells), key=first.headline))
    if rows:
        how = "lm-evaluation-harness; ± standard error over items; p: McNemar's exact test against the original"
        yield Group("Tasks", "", how, tuple(rows))


def _same_task(left: TaskScore, right: TaskScore) -> bool:
    return (left.task, left.metric, left.filter) == (right.task, right.metric, right.filter)


def _grid(variants: list[Measurement]) -> list[LatencyCell]:
    """Every cell that any variant was timed in, in the order of measuring, once."""
    cells: dict[tuple[int, int, int], LatencyCell] = {}
    for m in variants:
        for cell in m.latency:
            cells.setdefault((cell.batch_size, cell.input_tokens, cell.output_tokens), cell)
    return list(cells.values())


def _latency(m: Measurement, key: tuple[int, int, int]) -> LatencyCell | None:
    return next((c for c in m.latency if (c.batch_size, c.input_tokens, c.output_tokens) == key), None)


def _interval(value: Interval | None, write: Callable[[float], str], change: str = "") -> Cell:
    if value is None:
        return NOT_MEASURED
    low, high = write(value.low), write(value.high)
    unit = low.rsplit(" ", 1)[-1] if " " in low else ""
    if unit and high.endswith(f" {unit}"):  # "45.1 to 47.0 ms", the unit once
        low = low.removesuffix(f" {unit}")
    elif low.endswith("×"):
        low = low.removesuffix("×")
    return Cell(write(value.median), change, f"{low} to {high}")
