"""Check of the ways to quantise: each holds for the model as it came in.

Pruning of width changes the shapes, so the prune stage looks once more at what it has made.
"""

from __future__ import annotations

from secateur.contract.models.quantised import quantised_by
from workers.stages.checks.subject import Subject
from workers.stages.quantise import refuse_unquantisable


def look(subject: Subject) -> str | None:
    """Raises InvalidInput or UnsupportedModel."""
    ways = subject.spec.quantise
    if not ways or quantised_by(subject.config) is not None:  # which the check of the pruning has refused
        return None
    refuse_unquantisable(subject.context, subject.original.checkpoint)
    return ", ".join(way.variant for way in ways)
