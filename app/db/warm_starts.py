"""The recovered checkpoint of an earlier job, which a recovery may begin with: that there is one, and that it fits.

What two specs tell is compared when a job is submitted. Which blocks a criterion chose is known when the model has
been pruned, and is compared before the recovery begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import jobs
from app.db.rounds import of_what_is_handed_out
from secateur.contract.errors import InvalidInput, NotFound
from secateur.contract.jobs import State
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.pruning import DepthPruning, SubBlockPruning
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import PRUNE, RECOVER

_PLACE = "/recovery/warm_start"
_WANTED = "a job that recovered the same model without the same blocks"
_SHAPE = ("kind", "kept", "units")  # of the result of pruning: which blocks and halves of blocks there are


@dataclass(frozen=True)
class WarmStart:
    """What an earlier job has left."""

    job_id: UUID
    key: str  # of the stage
    output: str  # its folder in the store
    model: Mapping[str, Any]  # as its spec named it
    pruned: Mapping[str, Any]  # what was pruned

    def refuse_spec(self, spec: CompressionSpec) -> None:
        """Raises InvalidInput: the job of this spec is, as far as it tells, of another model or loses other blocks."""
        pruning = spec.pruning
        if (
            not isinstance(pruning, DepthPruning | SubBlockPruning | JointPruning)
            or pruning.kind != self.pruned["kind"]
        ):
            raise _misfit(
                self.job_id,
                f"job {self.job_id} pruned by {self.pruned['kind']}, and this one by {pruning.kind}",
                "a job that took the same blocks or halves of blocks away",
            )
        here, there = _named(spec.model.model_dump(mode="json")), _named(self.model)
        if here != there:
            raise _misfit(self.job_id, f"job {self.job_id} recovered {there[-1]}, and this one has {here[-1]}", _WANTED)
        gone = self.pruned["dropped"] if isinstance(pruning, DepthPruning) else self.pruned["units"]
        drop = None if isinstance(pruning, JointPruning) else pruning.drop
        if drop is not None and set(drop) != set(gone):
            raise _misfit(
                self.job_id, f"job {self.job_id} is without {_listed(gone)}, and not {_listed(drop)}", _WANTED
            )

    def refuse_pruned(self, pruned: Mapping[str, Any]) -> None:
        """Raises InvalidInput: what has been pruned is of another model or has other blocks."""
        pruned = {"units": [], **pruned}
        if pruned["model"]["fingerprint"] != self.pruned["model"]["fingerprint"]:
            raise _misfit(self.job_id, f"job {self.job_id} recovered another model, or another revision of it", _WANTED)
        if any(pruned.get(name) != self.pruned.get(name) for name in _SHAPE):
            there, here = (found["units"] or found["dropped"] for found in (self.pruned, pruned))
            raise _misfit(
                self.job_id,
                f"job {self.job_id} is without {_listed(there)}, and this one without {_listed(here)}",
                _WANTED,
            )


def is_warm(spec: CompressionSpec) -> bool:
    """Whether the recovery of this spec begins with what an earlier job has left."""
    return isinstance(spec.recovery, TrainedRecovery) and spec.recovery.warm_start is not None


def warm_start_of(session: Session, spec: CompressionSpec) -> WarmStart | None:
    """What the recovery of this spec begins with; None, where that is the pruned model.

    Raises:
        InvalidInput: there is no such job, or it has recovered nothing.
    """
    recovery = spec.recovery
    if not isinstance(recovery, TrainedRecovery) or recovery.warm_start is None:
        return None
    try:
        job = jobs.get(session, recovery.warm_start)
    except NotFound as error:
        raise _misfit(recovery.warm_start, str(error), "the id of one of GET /jobs") from error
    done = {stage.kind: stage for stage in of_what_is_handed_out(job)[1] if stage.state is State.SUCCEEDED}
    pruned, recovered = done.get(PRUNE.name), done.get(RECOVER.name)
    if recovered is None or recovered.output is None or pruned is None or pruned.result is None:
        raise _misfit(job.id, f"job {job.id} has no recovered model", "a job whose recovery has succeeded")
    return WarmStart(job.id, recovered.key, recovered.output, job.spec["model"], {"units": [], **pruned.result})


def _named(model: Mapping[str, Any]) -> tuple[str, str]:
    return model["source"], model.get("id") or model["path"]


def _listed(parts: Any) -> str:
    return ", ".join(map(str, sorted(parts)))


def _misfit(job_id: UUID, detail: str, expected: str) -> InvalidInput:
    return InvalidInput.field(_PLACE, detail, value=str(job_id), expected=expected)
