"""What a claimed stage has to work with: the job's spec, and what the stages before it have left."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.db import artifacts, claims, jobs, sharing
from app.db.artifacts import NewArtifact
from app.db.claims import Claim, Ended
from app.domain.jobs import StageName, State
from app.domain.protocol import Runtime, StageSpec
from app.domain.spec import CompressionSpec
from app.errors import NotFound
from app.settings import Settings
from app.storage import ArtifactStore, StoredFile
from workers.dedupe import dedupe_key


@dataclass(frozen=True)
class Input:
    """What an earlier stage has published."""

    output: str  # folder in the store
    files: Sequence[StoredFile]


@dataclass(frozen=True)
class Assignment:
    """All that the database knows and the stage needs."""

    claim: Claim
    created_at: datetime
    asked: CompressionSpec
    fingerprint: str | None  # the model's, if an earlier stage has looked at it
    inputs: dict[StageName, Input]

    def spec(self, settings: Settings, store: ArtifactStore, work: Path, *, check: Callable[[], None]) -> StageSpec:
        """The spec of the stage's process; brings the inputs to this machine where they are not on it."""
        cache = settings.cache_dir.resolve()
        runtime = Runtime(
            device=settings.device,
            threads=settings.threads or max(1, _cores() // settings.concurrency),
            cache=cache,
            model_roots=settings.model_roots,
            data_roots=settings.data_roots,
            public_url=settings.public_url,
        )
        inputs = {
            name: store.folder(given.output, given.files, cache=cache / "artifacts", check=check)
            for name, given in self.inputs.items()
        }
        return StageSpec(
            job_id=self.claim.job_id,
            stage=self.claim.name,
            created_at=self.created_at,
            spec=self.asked,
            work=work,
            inputs=inputs,
            runtime=runtime,
        )

    def dedupe_key(self, spec: StageSpec) -> str | None:
        """The key under which this stage's result may be shared; None if it must not be."""
        files = {name: [(file.path, file.sha256) for file in given.files] for name, given in self.inputs.items()}
        return dedupe_key(spec, fingerprint=self.fingerprint, inputs=files)


def load(session: Session, claim: Claim) -> Assignment | None:
    """The claim's assignment; None if the job was deleted."""
    try:
        job = jobs.get(session, claim.job_id)
    except NotFound:
        return None
    own = next(stage for stage in job.stages if stage.id == claim.stage_id)
    inputs, fingerprint = {}, None
    for stage in job.stages:
        if stage.position < own.position and stage.state is State.SUCCEEDED and stage.output is not None:
            prefix = f"{stage.name.value}/"
            files = [
                StoredFile(row.path.removeprefix(prefix), row.key, row.size, row.sha256, row.content_type)
                for row in artifacts.of_stage(session, job.id, stage.name)
            ]
            inputs[stage.name] = Input(stage.output, files)
            fingerprint = fingerprint or _fingerprint(stage.result)
    return Assignment(claim, job.created_at, CompressionSpec.model_validate(job.spec), fingerprint, inputs)


def share(session: Session, claim: Claim, key: str) -> Ended | None:
    """End the stage with the result of an identical one, if there is any."""
    shared = sharing.find(session, claim.name, key)
    if shared is None:
        return None
    note = (
        f"The result was taken over from job {shared.job_id}, whose {claim.name.value} stage had the same model, "
        "options, inputs and engine version; nothing was computed again."
    )
    return claims.succeed(
        session, claim, result=shared.result, output=shared.output, files=shared.files, dedupe_key=key, note=note
    )


def commit(
    session: Session,
    claim: Claim,
    *,
    result: dict[str, Any],
    output: str,
    files: Sequence[StoredFile],
    dedupe_key: str | None,
) -> Ended:
    """End the stage with its own result."""
    published = [NewArtifact(file.path, file.key, file.size, file.sha256, file.content_type) for file in files]
    return claims.succeed(session, claim, result=result, output=output, files=published, dedupe_key=dedupe_key)


def _fingerprint(result: dict[str, Any] | None) -> str | None:
    """Scores and Pruned say which model they have seen."""
    model = (result or {}).get("model")
    fingerprint = model.get("fingerprint") if isinstance(model, dict) else None
    return fingerprint if isinstance(fingerprint, str) else None


def _cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
