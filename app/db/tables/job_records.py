"""What is written down of jobs: events, published files, reports."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, words
from app.db.tables.jobs import Job
from secateur.contract.jobs import Verdict


class Event(Base):
    """One line of a job's history, in the order in which it was committed."""

    __tablename__ = "events"
    __table_args__ = (
        CheckConstraint("type IN ('state', 'progress', 'log', 'metrics', 'text', 'verdict')", name="type"),
        CheckConstraint("level IN ('debug', 'info', 'warning', 'error')", name="level"),
        CheckConstraint("seq > 0", name="seq"),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey(Job.id, ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, comment="1, 2, 3 … within the job, without gaps.")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    stage: Mapped[str | None] = mapped_column(comment="Its key; NULL: of the job as a whole.")
    attempt: Mapped[int | None]
    type: Mapped[str]
    level: Mapped[str] = mapped_column(default="info")
    request_id: Mapped[str | None] = mapped_column(comment="X-Request-Id of the request behind it; else of the job's.")
    data: Mapped[dict[str, Any]]


class Artifact(Base):
    """One published file. Its bytes lie in the store and never change."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("job_id", "path"), CheckConstraint("size >= 0", name="size"))

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey(Job.id, ondelete="CASCADE"))
    stage: Mapped[str] = mapped_column(comment="Its key.")
    path: Mapped[str] = mapped_column(comment="As users see it: recover/checkpoint/model.safetensors.")
    key: Mapped[str] = mapped_column(comment="As the store knows it.")
    size: Mapped[int] = mapped_column(BigInteger, comment="Bytes.")
    sha256: Mapped[str]
    content_type: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Report(Base):
    """The report of a job that has succeeded."""

    __tablename__ = "reports"

    job_id: Mapped[UUID] = mapped_column(ForeignKey(Job.id, ondelete="CASCADE"), primary_key=True)
    body: Mapped[dict[str, Any]] = mapped_column(comment="A report, as results.py has it.")
    verdict: Mapped[Verdict] = mapped_column(words(Verdict, "verdict"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
