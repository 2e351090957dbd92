"""What a claimed stage has to work with: the job's spec, and what the stages before it have left."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.blobs.store import ArtifactStore
from app.db import artifacts, claims, datasets, jobs, twins
from app.db.baselines import baseline_of
from app.db.claims import Claim
from app.db.rounds import of_what_is_handed_out
from app.db.stage_ends import Ended
from app.db.tables.datasets import Dataset
from app.db.twins import SharedResult
from app.db.warm_starts import warm_start_of
from app.settings import Settings
from app.stored_file import StoredFile
from secateur.contract.errors import InvalidInput, NotFound, StageFailed
from secateur.contract.jobs import State
from secateur.contract.options.baseline import Baseline
from secateur.contract.options.texts import UploadText
from secateur.contract.protocol import Runtime, StageInput, StageSpec, UploadedFile, WorkingDevice
from secateur.contract.questions import Question
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import PRUNE, RECOVER, REPORT, STAGE_KINDS, TARGET_MODEL
from secateur.contract.texts import texts_of
from workers.machine.memory import stage_limit
from workers.machine.processor import threads_of_a_stage
from workers.supervision.event_relay import StageResult
from workers.supervision.result_keys import dedupe_key, sources

_ON_HUB = {"hub", "named"}
WARM_START = "warm_start"  # the key of what an earlier job has left
BASELINE = "baseline"  # the key of an earlier job's report


@dataclass(frozen=True)
class Input:
    """What an earlier stage has published."""

    kind: str
    output: str  # folder in the store
    files: Sequence[StoredFile]
    result: Mapping[str, Any] = field(default_factory=dict)

    def decisive(self) -> list[tuple[str, str]]:
        """What of it decides the results of later stages: all its files, unless its kind names fields that do."""
        fields = STAGE_KINDS[self.kind].hands_on
        if fields is None:
            return [(file.path, file.sha256) for file in self.files]
        return [(name, json.dumps(self.result.get(name))) for name in fields]


@dataclass(frozen=True)
class Assignment:
    """All that the database knows and the stage needs."""

    claim: Claim
    created_at: datetime
    asked: CompressionSpec
    fingerprints: Mapping[str, str]  # of the models that earlier stages have looked at, by their fields in the spec
    inputs: dict[str, Input]  # by key
    uploads: dict[UUID, Dataset]  # the data sets that the stage's texts name
    question: Question | None = None  # what the job is there to answer, if it is a question's

    def spec(
        self, settings: Settings, store: ArtifactStore, work: Path, *, device: WorkingDevice, check: Callable[[], None]
    ) -> StageSpec:
        """The spec of the stage's process; brings the inputs to this machine where they are not on it."""
        cache = settings.cache_dir.resolve()
        uploads = {
            dataset_id: _materialised(row, store, cache / "artifacts", check)
            for dataset_id, row in self.uploads.items()
        }
        runtime = Runtime(
            device=device.setting,
            threads=threads_of_a_stage(settings.threads, slots=settings.concurrency),
            memory=stage_limit(settings.stage_memory_bytes, slots=settings.concurrency),
            training_processes=settings.training_processes,
            cache=cache,
            model_roots=settings.model_roots,
            data_roots=settings.data_roots,
            uploads=uploads,
            public_url=settings.public_url,
        )
        inputs = {
            key: StageInput(
                kind=given.kind, folder=store.folder(given.output, given.files, cache=cache / "artifacts", check=check)
            )
            for key, given in self.inputs.items()
        }
        return StageSpec(
            job_id=self.claim.job_id,
            key=self.claim.key,
            kind=self.claim.kind,
            created_at=self.created_at,
            spec=self.asked,
            work=work,
            question=self.question,
            inputs=inputs,
            runtime=runtime,
        )

    @property
    def fetches(self) -> bool:
        """Whether the stage may ask the hub for a model, a text or the data of tasks."""
        kind = STAGE_KINDS[self.claim.kind]
        models = {"model": kind.opens_model, TARGET_MODEL: kind.opens_target}
        opened = {name for name, opens in models.items() if opens}
        asked = self.asked.model_dump(mode="json", include={*kind.texts, *opened})
        if any(source["source"] in _ON_HUB for source in sources(asked)):
            return True
        tasks = self.asked.benchmark.tasks if "benchmark" in kind.texts else None
        return tasks is not None and tasks.folder is None  # the data of a user's own definitions is beside them

    def dedupe_key(self, spec: StageSpec, device: WorkingDevice) -> str | None:
        """The key under which this stage's result may be shared; None if it must not be."""
        files = {
            key: given.decisive()
            for key, given in self.inputs.items()
            if STAGE_KINDS[given.kind].decides is not None  # what a check has seen changes no result
        }
        return dedupe_key(spec, device=device, fingerprints=self.fingerprints, inputs=files)


def load(session: Session, claim: Claim) -> Assignment | None:
    """The claim's assignment; None if the job was deleted.

    Raises InvalidInput if the stage needs a data set or the recovered model of a job that was deleted, as one can be
    while a failed job waits for a retry; or if that model does not fit.
    """
    try:
        job = jobs.get(session, claim.job_id)
    except NotFound:
        return None
    own = next(stage for stage in job.stages if stage.id == claim.stage_id)
    inputs: dict[str, Input] = {}
    fingerprints: dict[str, str] = {}
    try:
        giving = job if job.asked_of is None else jobs.get(session, job.asked_of)
    except NotFound:  # and the question with it
        return None
    for stage in job.stages if giving is job else of_what_is_handed_out(giving)[1]:
        is_read = stage.key in own.needs if giving is job else stage.kind in STAGE_KINDS[own.kind].reads
        if is_read and stage.state is State.SUCCEEDED and stage.output is not None:
            files = artifacts.files_of_stage(session, giving.id, stage.key)
            inputs[stage.key] = Input(stage.kind, stage.output, files, stage.result or {})
            fingerprints = _fingerprints(stage.result) | fingerprints
    asked = CompressionSpec.model_validate(job.spec)
    start = warm_start_of(session, asked) if claim.kind == RECOVER.name else None
    if start is not None:
        start.refuse_pruned(next(given.result for given in inputs.values() if given.kind == PRUNE.name))
        files = artifacts.files_of_stage(session, start.job_id, start.key)
        inputs[WARM_START] = Input(RECOVER.name, start.output, files)
    if claim.kind == REPORT.name and asked.baseline is not None:
        inputs |= _baseline(session, asked.baseline, job.id)
    question = None if job.question is None else Question.model_validate(job.question)
    uploads = _uploads(session, asked, claim.kind)
    return Assignment(claim, job.created_at, asked, fingerprints, inputs, uploads, question)


def _baseline(session: Session, baseline: Baseline, job_id: UUID) -> dict[str, Input]:
    """The report of the job that this one's result is held against; nothing where it was deleted since."""
    try:
        earlier = baseline_of(session, baseline, before=job_id)
    except InvalidInput:
        return {}
    written = next((stage for stage in earlier.stages if stage.kind == REPORT.name), None) if earlier else None
    if earlier is None or written is None or written.output is None:
        return {}
    files = [file for file in artifacts.files_of_stage(session, earlier.id, written.key) if file.path == REPORT.file]
    return {BASELINE: Input(REPORT.name, written.output, files)}


def _uploads(session: Session, asked: CompressionSpec, kind: str) -> dict[UUID, Dataset]:
    """The data sets that this stage reads."""
    named = {
        place: text.id
        for section in STAGE_KINDS[kind].texts
        for place, text in texts_of(getattr(asked, section), UploadText, (section,))
    }
    found = datasets.find(session, set(named.values()))
    for pointer, dataset_id in named.items():
        if dataset_id not in found:
            raise InvalidInput.field(
                f"{pointer}/id",
                f"The data set {dataset_id} was deleted.",
                value=str(dataset_id),
                expected="a data set that there is: upload it again, and submit a job that names it",
            )
    return found


def _materialised(row: Dataset, store: ArtifactStore, cache: Path, check: Callable[[], None]) -> UploadedFile:
    """The data set as a file of this machine: in place, or downloaded into the cache by its checksum."""
    output, _, name = row.key.rpartition("/")
    file = StoredFile(name, row.key, row.size, row.sha256, "application/octet-stream")
    path = store.folder(output, [file], cache=cache, check=check) / name
    if not path.is_file():
        raise StageFailed(f"The artifact store has lost the file of the data set {row.id}.")
    return UploadedFile(path=path, name=row.name, format=row.format, kind=row.kind, rows=row.rows, sha256=row.sha256)


def meet(session: Session, claim: Claim, key: str) -> Ended:
    """What an identical stage means for this one, see `twins.meet`."""

    def note(shared: SharedResult) -> str:
        return (
            f"The result was taken over from job {shared.job_id}, whose {claim.key} stage had the same model, "
            "options, inputs and engine version; nothing was computed again."
        )

    return twins.meet(session, claim, key, note=note)


def commit(
    session: Session,
    claim: Claim,
    *,
    result: StageResult,
    output: str,
    files: Sequence[StoredFile],
    dedupe_key: str | None,
    memory: int | None,
) -> Ended:
    """End the stage with its own result."""
    return claims.succeed(
        session,
        claim,
        result=result.data,
        output=output,
        files=files,
        adds=result.adds,
        dedupe_key=dedupe_key,
        memory=memory,
    )


def _fingerprints(result: dict[str, Any] | None) -> dict[str, str]:
    """Of the models that the stage says it has seen, by their fields in the spec."""
    found = {}
    for name in ("model", TARGET_MODEL):
        model = (result or {}).get(name)
        fingerprint = model.get("fingerprint") if isinstance(model, dict) else None
        if isinstance(fingerprint, str):
            found[name] = fingerprint
    return found
