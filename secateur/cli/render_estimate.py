"""An estimate for a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from secateur.contract.numbers import about, count, duration, ratio, size

if TYPE_CHECKING:
    from secateur.schemas.estimates import Estimate, Size, StageEstimate

UNKNOWN = "unknown"
ROUGH = "A span is rough, by this worker's arithmetic speed, until stages of the kind have run here."


def show_estimate(estimate: Estimate, console: Console) -> None:
    """What a job will take and give."""
    console.print(_sizes(estimate))
    console.print()
    console.print(_stages(estimate))
    device, beside = estimate.device, _bytes(estimate.worker_disk_bytes)
    notes = [
        *([f"Speedup by {estimate.speedup.detail}."] if estimate.speedup else []),
        f"On {device.name or device.kind} in {estimate.dtype}: {device.detail}. On the worker's disk beside: {beside}.",
        *([ROUGH] if estimate.rough_seconds else []),
        workers_in_words(estimate),
        *estimate.notes,
    ]
    for note in notes:
        console.print(f"[dim]{escape(note)}[/]", soft_wrap=True)


def time_in_words(estimate: Estimate) -> str:
    """How long a job may take, in a line; empty where that is not known."""
    if estimate.seconds is not None:
        return f"It should take about {duration(estimate.seconds)}, by what has run here."
    if estimate.rough_seconds is None:
        return ""
    return f"It may take {_time(estimate)}, by this worker's arithmetic speed."


def workers_in_words(estimate: Estimate) -> str:
    """Whether it fits the workers that are up."""
    up, fit = estimate.workers.up, estimate.workers.fit
    if up == 0:
        return "No worker is up that takes stages: the job would wait until one is."
    some = "1 worker is up" if up == 1 else f"{up} workers are up"
    if fit is None:
        return f"{some}; whether it has the memory is not known."
    having = "with" if fit == up else "without" if fit == 0 else f"{fit} of them with"
    return f"{some}, {having} the memory that it takes."


def _sizes(estimate: Estimate) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("Estimate")
    for name in ("Original", "Pruned"):
        table.add_column(name, justify="right")
    original, pruned = estimate.original, estimate.pruned
    certain = pruned is None or pruned.exact
    about = "" if pruned is None or certain else f" ± {count(pruned.spread)}"
    table.add_row("Blocks", *(_of(model, lambda found: count(found.blocks)) for model in (original, pruned)))
    table.add_row(
        "Parameters",
        _of(original, lambda found: count(found.parameters)),
        _of(pruned, lambda found: count(found.parameters)) + about,
    )
    table.add_row("Checkpoint", *(_of(model, lambda found: _bytes(found.bytes)) for model in (original, pruned)))
    table.add_row(
        "Cache of a token", *(_of(model, lambda found: size(found.kv_bytes_per_token)) for model in (original, pruned))
    )
    for variant in estimate.quantised:
        table.add_row(escape(variant.variant), "", _bytes(variant.bytes))
    gained = estimate.speedup
    speed = UNKNOWN if gained is None else ratio(gained.value)
    table.add_row("Speedup at batch 1", "", speed)
    return table


def _stages(estimate: Estimate) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("Stage", "Time", "Memory", "Files"):
        table.add_column(name, justify="left" if name == "Stage" else "right")
    for stage in estimate.stages:
        table.add_row(escape(stage.key), _time(stage), _bytes(stage.memory_bytes), _bytes(stage.disk_bytes))
    table.add_section()
    table.add_row("all, the most", _time(estimate), _bytes(estimate.memory_bytes), _bytes(estimate.disk_bytes))
    return table


def _time(timed: StageEstimate | Estimate) -> str:
    if timed.seconds is not None:
        return duration(timed.seconds)
    rough = timed.rough_seconds
    return UNKNOWN if rough is None else about(rough.low, rough.high)


def _bytes(value: int | None) -> str:
    return UNKNOWN if value is None else size(value)


def _of(model: Size | None, figure: Callable[[Size], str]) -> str:
    return UNKNOWN if model is None else figure(model)
