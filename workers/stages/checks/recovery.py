"""Check of the recovery: this machine has what its options need, and the method holds for the family."""

from __future__ import annotations

from workers.engine.recovery.job import check_optimizer
from workers.stages.checks.subject import Subject


def look(subject: Subject) -> str | None:
    """Raises InvalidInput or UnsupportedModel."""
    options = subject.spec.recovery
    if options.kind == "none":
        return None
    check_optimizer(options)
    return str(options.kind)
