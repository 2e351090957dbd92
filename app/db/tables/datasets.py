"""Data sets that were uploaded."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, new_id, words
from secateur.contract.datasets import DatasetFormat, DatasetKind


class Dataset(Base):
    """An uploaded data set. Its bytes lie in the store and never change; equal ones are one data set."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("sha256", "format"),
        CheckConstraint("size > 0", name="size"),
        CheckConstraint("rows > 0", name="rows"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    name: Mapped[str] = mapped_column(comment="As it was first uploaded; for people.")
    format: Mapped[DatasetFormat] = mapped_column(words(DatasetFormat, "format"))
    kind: Mapped[DatasetKind] = mapped_column(
        words(DatasetKind, "kind"),
        comment="What rows hold: text, alpaca (instruction, input, output) or chat (messages).",
    )
    rows: Mapped[int] = mapped_column(BigInteger, comment="Objects; of a plain text, lines.")
    size: Mapped[int] = mapped_column(BigInteger, comment="Bytes.")
    sha256: Mapped[str]
    key: Mapped[str] = mapped_column(comment="As the store knows it.")
