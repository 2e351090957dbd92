"""The questions that a finished job was asked: small jobs of their own, which read what its stages have left.

They live and end as jobs do, by the same claims and leases; they are in no list of jobs, and go with the one that was
asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db import jobs
from app.db.tables.jobs import Job
from secateur.contract.errors import NotFound
from secateur.contract.jobs import TERMINAL


def get(session: Session, asked_of: UUID, question_id: UUID) -> Job:
    """The job of one question that this job was asked. Raises NotFound."""
    job = jobs.get(session, asked_of)
    found = session.get(Job, question_id, populate_existing=True)
    if found is None or found.asked_of != job.id:
        raise NotFound(f"job {asked_of} was not asked a question {question_id}")
    return found


def newest(session: Session, asked_of: UUID, *, limit: int) -> Sequence[Job]:
    """The jobs of the last questions, the newest first."""
    return session.scalars(select(Job).where(Job.asked_of == asked_of).order_by(Job.id.desc()).limit(limit)).all()


def count_unanswered(session: Session, asked_of: UUID) -> int:
    """How many questions are not over yet."""
    query = select(func.count()).where(Job.asked_of == asked_of, Job.state.not_in(TERMINAL))
    return session.execute(query).scalar_one()


def keep(session: Session, asked_of: UUID, *, most: int) -> None:
    """Delete all but the newest `most` of those that are over. The asked job's row is locked by the caller."""
    over_query = (
        select(Job.id).where(Job.asked_of == asked_of, Job.state.in_(TERMINAL)).order_by(Job.id.desc()).offset(most)
    )
    session.execute(sql_delete(Job).where(Job.id.in_(over_query)).execution_options(synchronize_session=False))
