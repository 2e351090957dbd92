"""Reports: the whole result of a job that has succeeded."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.arrays import among
from app.db.session import Database
from app.db.tables.job_records import Report
from secateur.contract.jobs import Verdict


def find(session: Session, job_id: UUID) -> Report | None:
    """The report of a job, if its report stage has succeeded."""
    return session.get(Report, job_id)


def times(database: Database, job_ids: Collection[UUID]) -> dict[UUID, datetime]:
    """When the report of each of these jobs was written, of those that have one."""
    rows = database.execute(select(Report.job_id, Report.created_at).where(among(Report.job_id, job_ids)))
    return {row.job_id: row.created_at for row in rows}


def bodies(database: Database, job_ids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
    """The reports of these jobs, of those that have one."""
    if not job_ids:
        return {}
    rows = database.execute(select(Report.job_id, Report.body).where(among(Report.job_id, job_ids)))
    return {row.job_id: row.body for row in rows}


def put(session: Session, job_id: UUID, body: dict[str, Any], verdict: Verdict) -> None:
    """Write the report of a job."""
    row = insert(Report).values(job_id=job_id, body=body, verdict=verdict)
    session.execute(
        row.on_conflict_do_update(
            index_elements=[Report.job_id], set_={"body": body, "verdict": verdict, "created_at": func.now()}
        )
    )
