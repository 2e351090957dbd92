"""Reports: the whole result of a job that has succeeded."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Report
from secateur.contract.jobs import Verdict


def find(session: Session, job_id: UUID) -> Report | None:
    """The report of a job, if its report stage has succeeded."""
    return session.get(Report, job_id)


def put(session: Session, job_id: UUID, body: dict[str, Any], verdict: Verdict) -> None:
    """Write the report of a job."""
    row = insert(Report).values(job_id=job_id, body=body, verdict=verdict)
    session.execute(
        row.on_conflict_do_update(
            index_elements=[Report.job_id], set_={"body": body, "verdict": verdict, "created_at": func.now()}
        )
    )
