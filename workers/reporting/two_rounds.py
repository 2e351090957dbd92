"""The rounds of a job with a measured target as one report: which of them the job hands out, and why."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.contract.planning import Corrected
from secateur.contract.report import Report, TargetOutcome
from secateur.contract.spec import CompressionSpec
from workers.reporting.notes import write_notes


def in_one(rounds: Sequence[Report], spec: CompressionSpec, corrected: Corrected) -> Report:
    """The report of the round that is handed out, with what is known of the other one.

    A round that reached the target comes before one that did not. Of two that did it is the second, which is begun
    to take away less; of two that did not, the one that came nearer.
    """
    outcomes = [report.target for report in rounds if report.target is not None]
    best = _best(outcomes, least=spec.target is None or spec.target.least)
    report = rounds[best].model_copy(
        update={"corrected": corrected, "rounds": outcomes if len(outcomes) > 1 else [], "round": best + 1}
    )
    return report.model_copy(update={"notes": write_notes(report)})


def _best(outcomes: Sequence[TargetOutcome], *, least: bool) -> int:
    def merit(place: int) -> tuple[bool, float, int]:
        outcome = outcomes[place]
        value = float("-inf") if outcome.value is None else outcome.value if least else -outcome.value
        return outcome.met, 0.0 if outcome.met else value, place

    return max(range(len(outcomes)), key=merit)
