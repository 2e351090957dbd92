"""Check of scoring and pruning: the model has what is to go, and its family can spare it."""

from __future__ import annotations

from secateur.contract.models.quantised import check_quantised
from workers.stages.checks.subject import Subject
from workers.stages.prune import pruner_of


def look(subject: Subject) -> str:
    """Raises InvalidInput or UnsupportedModel."""
    check_quantised(subject.spec, subject.config)
    pruning = subject.spec.pruning
    return pruner_of(type(pruning)).check(subject.context, subject.original, pruning)
