"""Check of a choice after healing: what is to be compared can be healed and trained here."""

from __future__ import annotations

from secateur.contract.stage_kinds import CHOOSE
from workers.stages.checks.subject import Subject
from workers.stages.choose import refuse_finalists


def look(subject: Subject) -> str | None:
    """Raises InvalidInput or UnsupportedModel."""
    if not CHOOSE.asked(subject.spec):
        return None
    scoring = subject.spec.scoring
    refuse_finalists(scoring, subject.original, subject.machine)
    finalists = f", {scoring.finalists} of them distilled" if scoring.finalists is not None else ""
    return f"up to {scoring.candidates} sets are healed{finalists}"
