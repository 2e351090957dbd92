"""Artifacts: which files a job has published, and where the store has them.

What a stage has published never changes. But a checkpoint's model card is written before the model is measured, so the
report has a card for each, with the figures: who lists or reads a job's files gets that one at the card's path. A
stage's own files (`files_of_stage`) stay as they are, for those who share its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from app.db.tables.job_records import Artifact
from app.stored_file import StoredFile
from secateur.contract.errors import NotFound
from secateur.contract.stage_kinds import CARDS, REPORT

_FINAL = f"{REPORT.name}/{CARDS}/"


def list_for(session: Session, job_id: UUID) -> list[Artifact]:
    """All of a job, by path, with the final model cards."""
    rows = session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.path)).all()
    final = {row.path.removeprefix(_FINAL): row for row in rows if row.path.startswith(_FINAL)}
    others = [row for row in rows if not row.path.startswith(_FINAL)]
    return [_with_bytes_of(row, final[row.path]) if row.path in final else row for row in others]


def _with_bytes_of(row: Artifact, card: Artifact) -> Artifact:
    """The final card at the place of the one that the stage wrote; a row of no session."""
    return Artifact(
        job_id=row.job_id,
        stage=row.stage,
        path=row.path,
        key=card.key,
        size=card.size,
        sha256=card.sha256,
        content_type=card.content_type,
        created_at=card.created_at,
    )


def of_stage(session: Session, job_id: UUID, stage: str) -> list[Artifact]:
    """Those of one stage, by path."""
    query = select(Artifact).where(Artifact.job_id == job_id, Artifact.stage == stage)
    return list(session.scalars(query.order_by(Artifact.path)))


def files_of_stage(session: Session, job_id: UUID, stage: str) -> list[StoredFile]:
    """The files of one stage as the store has them, their paths relative to the stage's output."""
    return [
        StoredFile(row.path.removeprefix(f"{stage}/"), row.key, row.size, row.sha256, row.content_type)
        for row in of_stage(session, job_id, stage)
    ]


def get(session: Session, job_id: UUID, path: str) -> Artifact:
    """One file by its path, such as `recover/checkpoint/model.safetensors`. Raises NotFound."""
    wanted = select(Artifact).where(Artifact.job_id == job_id, Artifact.path.in_([path, _FINAL + path]))
    found = {row.path: row for row in session.scalars(wanted)}
    if path not in found:
        raise NotFound(f"job {job_id} has no artifact {path}")
    card = found.get(_FINAL + path)
    return _with_bytes_of(found[path], card) if card else found[path]


def replace(session: Session, job_id: UUID, stage: str, files: Sequence[StoredFile]) -> None:
    """Make `files` the artifacts of this stage."""
    session.execute(delete(Artifact).where(Artifact.job_id == job_id, Artifact.stage == stage))
    rows = [
        {
            "job_id": job_id,
            "stage": stage,
            "path": f"{stage}/{file.path}",
            "key": file.key,
            "size": file.size,
            "sha256": file.sha256,
            "content_type": file.content_type,
        }
        for file in files
    ]
    if rows:
        session.execute(insert(Artifact), rows)
