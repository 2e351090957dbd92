"""Artifacts: which files a job has published, and where the store has them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from app.db.tables import Artifact
from app.stored_file import StoredFile
from secateur.contract.errors import NotFound


def list_for(session: Session, job_id: UUID) -> list[Artifact]:
    """All of a job, by path."""
    return list(session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.path)))


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
    found = session.scalars(select(Artifact).where(Artifact.job_id == job_id, Artifact.path == path)).one_or_none()
    if found is None:
        raise NotFound(f"job {job_id} has no artifact {path}")
    return found


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
