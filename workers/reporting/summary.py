"""The report's figures as rows of text: what the HTML table, the Markdown table and the model card all show.

A row has a cell per variant, the original first. It also says how its figures were measured, so that no number
stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app.domain.results import Interval, LatencyCell, Measurement, Perplexity, Report, TextInfo
from workers.reporting import numbers as n
from workers.reporting.notes import measurement
from workers.reporting.text import one_line, plural


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
    how: str  # how it was measured
    cells: tuple[Cell, ...]  # one per variant
    key: bool = False  # whether it stands in compact tables too


@dataclass(frozen=True)
class Group:
    """Rows of one kind, such as everything about size."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Headline:
    """One of the few figures that a reader should see first, of the final variant."""

    label: str
    value: str
    detail: str


def groups(report: Report) -> list[Group]:
    """All figures of the report; a group without rows is left out."""
    variants = report.benchmarks.variants
    made = (
        Group("Size", tuple(_size(variants))),
        Group("Speed", tuple(_speed(variants))),
        Group("Memory", tuple(_memory(variants))),
        Group("Quality", tuple(_quality(variants))),
    )
    return [group for group in made if group.rows]


def headlines(report: Report) -> list[Headline]:
    """Speedup, size, and distance from the original, of the final variant: those that were measured."""
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
        detail = f"nats per token from the original, {n.percent(worst.top1_agreement)} top-1 agreement"
        found.append(Headline("KL divergence", n.significant(worst.kl), detail))
    if final.perplexity and original.perplexity:
        after, before = final.perplexity[0], original.perplexity[0]
        detail = f"{n.significant(before.value)} → {n.significant(after.value)}"
        found.append(Headline("Perplexity", n.ratio(after.value / before.value), detail))
    return found


def change_in_words(report: Report) -> str:
    """What was removed: "6 of 30 blocks removed", "heads and neurons removed from 30 blocks"."""
    pruned = report.pruned
    if pruned.dropped:
        return f"{len(pruned.dropped)} of {plural(pruned.model.blocks, 'block')} removed"
    return f"heads and neurons removed in {plural(pruned.model.blocks, 'block')}"


def cell_name(cell: LatencyCell) -> str:
    """Which cell of the latency grid: "batch 1, 12 + 128 tokens"."""
    return f"batch {cell.batch_size}, {cell.input_tokens} + {cell.output_tokens} tokens"


def text_amount(text: TextInfo) -> str:
    """How much of a text was used: "40 × 128 tokens"."""
    return f"{text.samples:,} × {text.tokens:,} tokens"


def _size(variants: list[Measurement]) -> Iterator[Row]:
    first = variants[0]
    yield Row(
        "Parameters",
        "counted in the checkpoint; tied weights once",
        tuple(Cell(n.count(m.parameters), _change(m.parameters, first.parameters, m is first)) for m in variants),
        key=True,
    )
    yield Row("Blocks", "Transformer blocks in the checkpoint", tuple(Cell(n.count(m.blocks)) for m in variants))
    yield Row(
        "Weights on disk",
        "bytes of the safetensors files, 1 MB = 10⁶ bytes",
        tuple(
            Cell(n.size(m.bytes_on_disk), _change(m.bytes_on_disk, first.bytes_on_disk, m is first)) for m in variants
        ),
        key=True,
    )


def _speed(variants: list[Measurement]) -> Iterator[Row]:
    for index, cell in enumerate(_grid(variants)):
        key = (cell.batch_size, cell.input_tokens, cell.output_tokens)
        name = cell_name(cell)
        found = [_latency(m, key) for m in variants]
        runs = f"{name}; median of {plural(cell.runs, 'run')}, variants in turn"
        if any(c and c.speedup for c in found):
            speedups = [
                Cell("1×") if m is variants[0] else _interval(c.speedup if c else None, n.ratio)
                for m, c in zip(variants, found, strict=True)
            ]
            yield Row(f"Speedup, {name}", _noise(found, runs), tuple(speedups), key=index == 0)
        parts: tuple[tuple[str, Callable[[LatencyCell], Interval], Callable[[float], str], bool], ...] = (
            ("Tokens per second", lambda c: c.tokens_per_second, n.significant, index == 0),
            ("Time per generation", lambda c: c.seconds, n.seconds, False),
            ("Time to first token", lambda c: c.time_to_first_token, n.seconds, False),
            ("Time per output token", lambda c: c.time_per_output_token, n.seconds, False),
        )
        for label, read, write, compact in parts:
            cells = []
            for c in found:
                base = found[0]
                change = "" if c is None or base is None or c is base else n.change(read(c).median, read(base).median)
                cells.append(_interval(read(c) if c else None, write, change))
            yield Row(f"{label}, {name}", runs, tuple(cells), key=compact)


def _memory(variants: list[Measurement]) -> Iterator[Row]:
    known = [m.memory for m in variants if m.memory]
    if not known:
        return
    first = variants[0].memory
    peak = f"while generating; {known[0].measured_as}"
    for label, how, field, key in (
        ("Weights in memory", "parameters and buffers", "weights", False),
        ("Peak memory", peak, "peak", True),
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
        yield Row(label, how, tuple(cells), key=key)


def _quality(variants: list[Measurement]) -> Iterator[Row]:
    texts: dict[tuple[str, str], Perplexity] = {}
    for p in (p for m in variants for p in m.perplexity):
        texts.setdefault((p.text.sha256, p.protocol), p)
    for key, shown in texts.items():
        figures = [next((p for p in m.perplexity if (p.text.sha256, p.protocol) == key), None) for m in variants]
        base = figures[0]
        yield Row(
            f"Perplexity, {one_line(shown.text.description)}",
            f"{shown.protocol}; {text_amount(shown.text)}",
            tuple(
                NOT_MEASURED
                if p is None
                else Cell(
                    n.significant(p.value),
                    "" if base is None or p is base else n.change(p.value, base.value),
                    n.span(p.low, p.high),
                )
                for p in figures
            ),
            key=True,
        )
    fidelity = {f.text.sha256: f.text for m in variants for f in m.fidelity}
    for sha256, text in fidelity.items():
        against = [next((f for f in m.fidelity if f.text.sha256 == sha256), None) for m in variants]
        label, amount = one_line(text.description), text_amount(text)
        yield Row(
            f"KL divergence from the original, {label}",
            f"nats per token, KL(original ‖ variant); {amount}",
            tuple(
                Cell("0")
                if f is None and m is variants[0]
                else NOT_MEASURED
                if f is None
                else Cell(n.significant(f.kl), "", n.span(f.kl_low, f.kl_high))
                for m, f in zip(variants, against, strict=True)
            ),
            key=True,
        )
        yield Row(
            f"Top-1 agreement with the original, {label}",
            f"positions where both rank the same token first; {amount}",
            tuple(
                Cell("100 %")
                if f is None and m is variants[0]
                else NOT_MEASURED
                if f is None
                else Cell(n.percent(f.top1_agreement))
                for m, f in zip(variants, against, strict=True)
            ),
            key=True,
        )


def _grid(variants: list[Measurement]) -> list[LatencyCell]:
    """Every cell that any variant was timed in, in the order of measuring, once."""
    cells: dict[tuple[int, int, int], LatencyCell] = {}
    for m in variants:
        for cell in m.latency:
            cells.setdefault((cell.batch_size, cell.input_tokens, cell.output_tokens), cell)
    return list(cells.values())


def _latency(m: Measurement, key: tuple[int, int, int]) -> LatencyCell | None:
    return next((c for c in m.latency if (c.batch_size, c.input_tokens, c.output_tokens) == key), None)


def _noise(cells: list[LatencyCell | None], runs: str) -> str:
    noise = [c.noise for c in cells if c and c.noise is not None]
    return f"{runs}; the original against itself differs by up to {n.percent(max(noise))}" if noise else runs


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


def _change(after: float, before: float, original: bool) -> str:
    return "" if original else n.change(after, before)
