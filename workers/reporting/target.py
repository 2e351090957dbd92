"""What became of a job's target: asked for, chosen, reached; and the gate that judges one which was measured."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.contract import numbers as n
from secateur.contract.measurements import Interval, Measurement
from secateur.contract.options.target import Target
from secateur.contract.planning import Corrected, Planned, UnitCosts
from secateur.contract.readings import cell_name
from secateur.contract.report import GateResult, TargetOutcome
from secateur.contract.results import Pruned
from secateur.contract.sub_blocks import HALVES
from secateur.contract.target_figures import TARGET_FIGURES, cell_of_target, may_reach, reading_of
from secateur.contract.targets import limit_of
from secateur.report.text import plural


@dataclass(frozen=True)
class Foreseen:
    """What was known of a measured target before the model was pruned."""

    limit: float
    value: float | None  # of the figure, by the fit
    corrected_from: int | None = None  # blocks


def foreseen_of(
    planned: Planned | None, costs: UnitCosts | None, pruned: Pruned, *, corrected: Corrected | None = None
) -> Foreseen | None:
    """By a plan, its correction, or costs; None where nothing was measured for it."""
    if corrected is not None and corrected.predicted is not None:
        return Foreseen(corrected.limit, corrected.predicted.value, corrected.planned)
    if planned is not None:
        return Foreseen(planned.limit, planned.predicted.value, planned.corrected_from)
    if costs is not None:
        return Foreseen(costs.limit, pruned.joint.foreseen if pruned.joint else None)
    return None


def target_outcome(
    target: Target, pruned: Pruned, foreseen: Foreseen | None, original: Measurement, final: Measurement
) -> TargetOutcome:
    """Args: `final` is of the model that the job hands out."""
    if foreseen is None:
        return _of_size(target, pruned)
    before = reading_of(target, original)
    limit = foreseen.limit if before is None else limit_of(target, before.median)
    reading = reading_of(target, final)
    met = reading is not None and may_reach(target, limit, reading)
    return TargetOutcome(
        figure=target.figure,
        asked=target.value,
        limit=limit,
        removed=len(pruned.dropped),
        value=None if reading is None else reading.median,
        low=None if reading is None or reading.low == reading.high else reading.low,
        high=None if reading is None or reading.low == reading.high else reading.high,
        met=met,
        message=_message(target, limit, pruned, foreseen, _in_words(target, reading, final), met=met),
    )


def _of_size(target: Target, pruned: Pruned) -> TargetOutcome:
    sizes = {
        "parameters": (pruned.parameters_before, pruned.parameters_after),
        "bytes": (pruned.bytes_before, pruned.bytes_after),
    }
    before, after = sizes[target.figure]
    limit = limit_of(target, before)
    return TargetOutcome(
        figure=target.figure,
        asked=target.value,
        limit=limit,
        removed=len(pruned.dropped),
        value=after,
        met=after <= limit,
        message=f"at most {_limit_in_words(target, limit)}: {_gone(pruned)} had to go, and {after:,} are left",
    )


def _message(target: Target, limit: float, pruned: Pruned, before: Foreseen, measured: str, *, met: bool) -> str:
    """ "a speedup of at least 1.3×: 8 of 30 blocks went, for which 1.34× was predicted; it is 1.33× (1.30 to 1.36)"."""
    figure = TARGET_FIGURES[target.figure]
    relation = "at least" if target.least else "at most"
    foreseen = "nothing" if before.value is None else figure.format.write(before.value)
    corrected = f", corrected from {before.corrected_from}" if before.corrected_from is not None else ""
    outcome = "reached" if met else "missed"
    return (
        f"{figure.title} of {relation} {_limit_in_words(target, limit)}, {outcome}: {_gone(pruned)} went{corrected}, "
        f"for which {foreseen} was predicted, and {measured}"
    )


def _in_words(target: Target, reading: Interval | None, final: Measurement) -> str:
    """ "1.33× (1.30 to 1.36) was measured at batch 1, 12 + 128 tokens"."""
    if reading is None:
        return "nothing was measured"
    form = TARGET_FIGURES[target.figure].format
    span = f" ({form.span(reading.low, reading.high)})" if reading.low < reading.high else ""
    cell = cell_of_target(target, final.latency)
    return f"{form.write(reading.median)}{span} was measured" + (f" at {cell_name(cell)}" if cell else "")


def _limit_in_words(target: Target, limit: float) -> str:
    figure = TARGET_FIGURES[target.figure]
    share = f" ({n.percent(target.value)} of the original's)" if target.share else ""
    unit = f" {figure.title}" if not target.measured else ""
    return figure.format.typed(limit) + unit + share


def _gone(pruned: Pruned) -> str:
    if pruned.units:
        return f"{len(pruned.units)} of {plural(len(HALVES) * pruned.model.blocks, 'half', 'halves')} of blocks"
    return f"{len(pruned.dropped)} of {plural(pruned.model.blocks, 'block')}"


def target_gate(target: Target, outcome: TargetOutcome) -> GateResult | None:
    """A target that was measured, as a gate; one that was counted is reached in any case."""
    name = TARGET_FIGURES[target.figure].gate
    if not name:
        return None
    better = outcome.high if target.least else outcome.low
    return GateResult(
        gate=name,
        metric=f"target, {TARGET_FIGURES[target.figure].title}",
        threshold=outcome.limit,
        value=outcome.value,
        low=outcome.low,
        high=outcome.high,
        judged=outcome.value if better is None else better,
        passed=outcome.met,
        message=outcome.message,
    )
