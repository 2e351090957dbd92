"""Results that identical stages of different jobs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import artifacts
from app.db.tables import Stage
from app.stored_file import StoredFile
from secateur.contract.jobs import State


@dataclass(frozen=True)
class SharedResult:
    """What a stage of another job has left, under the same dedupe key."""

    job_id: UUID
    result: dict[str, Any]
    output: str
    files: list[StoredFile]


def find(session: Session, name: str, dedupe_key: str) -> SharedResult | None:
    """The newest result under this key. Its job cannot be deleted until the transaction ends."""
    query = (
        select(Stage)
        .where(Stage.dedupe_key == dedupe_key, Stage.name == name, Stage.state == State.SUCCEEDED)
        .order_by(Stage.finished_at.desc())
        .limit(1)
        .with_for_update(read=True, key_share=True)
    )
    stage = session.scalars(query).one_or_none()
    if stage is None or stage.result is None or stage.output is None:
        return None
    files = artifacts.files_of_stage(session, stage.job_id, name)
    return SharedResult(stage.job_id, stage.result, stage.output, files)
