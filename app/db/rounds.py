"""Which stages of a job are of the round whose model it hands out (`secateur/contract/rounds.py`)."""

from __future__ import annotations

from app.db.tables.jobs import Job, Stage
from secateur.contract.rounds import handed_out, of_round
from secateur.contract.stage_kinds import STAGE_KINDS


def of_what_is_handed_out(job: Job) -> tuple[int, list[Stage]]:
    """The number of the round, and its stages with those that both rounds have in common."""
    written = next((stage.result for stage in job.stages if STAGE_KINDS[stage.kind].concludes), None)
    number = handed_out([stage.key for stage in job.stages], written)
    keys = set(of_round({stage.key: stage.kind for stage in job.stages}, number))
    return number, [stage for stage in job.stages if stage.key in keys]
