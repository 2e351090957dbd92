"""Which store and scratch belong to this database."""

from __future__ import annotations

from sqlalchemy import Column, Table, Uuid

from app.db.base import Base

installation = Table(
    "installation",
    Base.metadata,
    Column("id", Uuid(), nullable=False),
    comment="One row: the id that marks the store and the scratch which belong to this database.",
)
