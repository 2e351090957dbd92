"""What a target asks for, as figures: how each is written, what it is called in a sentence, and how it is read.

A target is reached where the measured interval does not leave it out: it is what the job aims at, and noise on both
sides of it is no miss. A gate (`options/gates.py`) judges the worse end, since it is a promise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from secateur.contract import numbers as n
from secateur.contract.measurements import Interval, LatencyCell, Measurement
from secateur.contract.options.gates import Gates
from secateur.contract.options.target import Target


@dataclass(frozen=True)
class TargetFigure:
    """One figure that a target may ask for."""

    title: str  # within a sentence: "speedup"
    format: n.Format
    gate: str = ""  # under which the report judges it, where it was measured
    cell: Callable[[LatencyCell], Interval | None] = lambda cell: None  # how it is read off a cell of speeds


def _milliseconds(cell: LatencyCell) -> Interval:
    seconds = cell.seconds
    return Interval(median=1000 * seconds.median, low=1000 * seconds.low, high=1000 * seconds.high)


TARGET_FIGURES: Mapping[str, TargetFigure] = {
    "parameters": TargetFigure("parameters", n.COUNT),
    "bytes": TargetFigure("bytes of weights", n.COUNT),
    "speedup": TargetFigure("speedup", n.RATIO, "min_target_speedup", lambda cell: cell.speedup),
    "latency_ms": TargetFigure("time of a generation", n.MILLISECONDS, "max_target_latency_ms", _milliseconds),
    "tokens_per_second": TargetFigure(
        "tokens per second", n.NUMBER, "min_target_tokens_per_second", lambda cell: cell.tokens_per_second
    ),
    "memory": TargetFigure("peak memory", n.SIZE, "max_target_memory"),
}


def cell_of_target(target: Target, cells: list[LatencyCell]) -> LatencyCell | None:
    """The cell in which a target of speed is measured: the first that has what the target names of it."""
    return next(
        (
            cell
            for cell in cells
            if target.batch_size in (None, cell.batch_size) and target.output_tokens in (None, cell.output_tokens)
        ),
        None,
    )


def reading_of(target: Target, measured: Measurement) -> Interval | None:
    """What a variant has of the figure; None where it was not measured."""
    if target.figure == "memory":
        memory = measured.memory
        return None if memory is None else Interval(median=memory.peak, low=memory.peak, high=memory.peak)
    cell = cell_of_target(target, measured.latency)
    return None if cell is None else TARGET_FIGURES[target.figure].cell(cell)


def may_reach(target: Target, limit: float, reading: Interval) -> bool:
    """Whether the better end of an interval reaches the target: the interval does not leave it out."""
    return reading.high >= limit if target.least else reading.low <= limit


def reaches(target: Target, limit: float, reading: Interval) -> bool:
    """Whether the figure itself does, the middle of the interval."""
    return reading.median >= limit if target.least else reading.median <= limit


def surely_reaches(target: Target, limit: float, reading: Interval) -> bool:
    """Whether its worse end does."""
    return reading.low >= limit if target.least else reading.high <= limit


def promised(target: Target, gates: Gates) -> float | None:
    """The speedup that the worse end has to reach, where a gate on the target's own figure asks for that."""
    own = target.figure == "speedup" and target.batch_size is None and target.output_tokens is None
    return gates.min_speedup if own and gates.judge == "interval" else None


def leaves_out(limit: float, reading: Interval) -> bool:
    """Whether the limit lies outside the interval, on either side."""
    return not reading.low <= limit <= reading.high


def shown(target: Target, reading: Interval) -> str:
    """ "speedup 1.31× (1.28 to 1.35)"."""
    figure = TARGET_FIGURES[target.figure]
    span = figure.format.span(reading.low, reading.high) if reading.low < reading.high else ""
    return f"{figure.title} {figure.format.write(reading.median)}" + (f" ({span})" if span else "")
