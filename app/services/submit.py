"""Submitting a job: checked as far as can be seen from here, committed once, and only then sent to a worker."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic_core import PydanticSerializationError

from app.db import jobs
from app.db.session import Database
from app.db.warm_starts import is_warm, warm_start_of
from app.services.check_baseline import check_baseline
from app.services.check_spec import check_spec, check_uploads
from app.services.local_files import LocalModelInfo
from app.services.work import Work
from secateur.contract.datasets import SURROGATE
from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.options.texts import UploadText
from secateur.contract.shown import shown
from secateur.contract.spec import CompressionSpec
from secateur.contract.texts import texts_of
from secateur.contract.validation_errors import pointer_of


@dataclass(frozen=True)
class Submitted:
    """The job of a submission."""

    id: UUID
    text: str  # the job as it was made: see `app.db.job_json`
    replayed: bool  # an earlier request with the same idempotency key had made it


def fingerprint(spec: CompressionSpec) -> str:
    """What two bodies share if they ask for the same job.

    Defaults are left out, written or not, so a version that adds a field still knows the bodies of the one before.
    """
    asked = spec.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def submit(
    work: Work,
    spec: CompressionSpec,
    *,
    caller: str,
    idempotency_key: str | None = None,
    cancel_after: timedelta | None = None,
) -> Submitted:
    """Make the job that `spec` asks for, unless this caller's idempotency key has made it already.

    A refused submission leaves no trace of its key, so that a mended body may use it.

    Raises:
        InvalidInput: the spec cannot be met, names a data set that is not there, or the key was used with another body.
        BadCheckpoint, UnsupportedModel: of a local model.
    """
    # what the spec names is held until the job is there
    database = work.session if _names_rows(spec) else work.one_statement()
    digest = fingerprint(spec) if idempotency_key is not None else None
    if idempotency_key is not None and (earlier := _earlier(database, caller, idempotency_key, digest)):
        return Submitted(earlier.id, earlier.text, replayed=True)
    check(work, spec)
    job = jobs.insert(
        database,
        spec=spec,
        caller=caller,
        idempotency_key=idempotency_key,
        idempotency_fingerprint=digest,
        deadline_at=datetime.now(UTC) + cancel_after if cancel_after else None,
        origin=work.origin,
    )
    if job is None:  # somebody with the same key was faster, and has committed by now
        assert idempotency_key is not None
        earlier = _earlier(database, caller, idempotency_key, digest)
        assert earlier is not None
        return Submitted(earlier.id, earlier.text, replayed=True)
    send(work, job.stage_ids[0])
    return Submitted(job.id, job.text, replayed=False)


def check(work: Work, spec: CompressionSpec) -> LocalModelInfo | None:
    """Refuse a spec that cannot be met, as far as is seen from here; what it names is held until the transaction ends.

    Returns what was seen of the local model. Raises InvalidInput, BadCheckpoint, UnsupportedModel.
    """
    _refuse_unwritable(spec)
    found = check_spec(spec, work.settings)
    if uploads := texts_of(spec, UploadText):
        check_uploads(work.session, spec, uploads)
    if is_warm(spec) and (start := warm_start_of(work.session, spec)):
        start.refuse_spec(spec)
    if spec.baseline is not None:
        check_baseline(work.session, spec.baseline)
    return found


def _names_rows(spec: CompressionSpec) -> bool:
    """Whether it names data sets or an earlier job."""
    return bool(texts_of(spec, UploadText)) or is_warm(spec) or spec.baseline is not None


def send(work: Work, stage_id: UUID) -> None:
    """Send this stage, which waits for a worker, once this transaction is committed."""
    work.after_commit(f"sending stage {stage_id}", lambda: work.send_stage(stage_id))


def _earlier(database: Database, caller: str, key: str, digest: str | None) -> jobs.EarlierJob | None:
    job = jobs.by_idempotency_key(database, caller=caller, key=key)
    if job is not None and job.fingerprint != digest:
        detail = f"this Idempotency-Key has made job {job.id} from another body"
        field = FieldError("", detail, key, "a new key for a new body", "header Idempotency-Key")
        raise InvalidInput(detail, errors=[field])
    return job


def _refuse_unwritable(spec: CompressionSpec) -> None:
    """Postgres keeps no NUL character in a text, and no name, path or prompt has one, or half of a surrogate pair."""
    try:
        if "\\u0000" not in spec.model_dump_json():
            return
    except PydanticSerializationError:  # that half
        pass
    _refuse_unwritable_in(spec.model_dump())


def _refuse_unwritable_in(value: Any, path: tuple[str | int, ...] = ()) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidInput.field(
                pointer_of(path), "the text holds a NUL character", value=shown(value), expected="text without \\u0000"
            )
        if not value.isascii() and SURROGATE.search(value):
            detail = "the text holds half of a surrogate pair, which is no character"
            raise InvalidInput.field(
                pointer_of(path), detail, value=shown(value), expected="text that can be written as UTF-8"
            )
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        _refuse_unwritable_in(item, (*path, key))
