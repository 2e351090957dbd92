"""Sweeps: jobs that were made together."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, new_id


class Sweep(Base):
    """Jobs that were made together, a point each, and have one report. Its state follows from theirs."""

    __tablename__ = "sweeps"
    __table_args__ = (
        UniqueConstraint("caller", "idempotency_key"),
        CheckConstraint("(idempotency_key IS NULL) = (idempotency_fingerprint IS NULL)", name="idempotency"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    asked: Mapped[dict[str, Any]] = mapped_column(comment="The SweepSpec as it was sent.")
    changes: Mapped[list[Any]] = mapped_column(
        JSONB, comment="What each point differs in, in the order of their places: field of the spec to value."
    )
    gates: Mapped[dict[str, Any]] = mapped_column(comment="By which all points are judged, as their specs have them.")
    labels: Mapped[dict[str, str]] = mapped_column(default=dict)
    model_id: Mapped[str] = mapped_column(comment="Hub id or path of the first point's model.")
    caller: Mapped[str] = mapped_column(comment="Whose idempotency keys these are: the API key's name.")
    request_id: Mapped[str | None] = mapped_column(comment="X-Request-Id of the request that made the sweep.")
    idempotency_key: Mapped[str | None]
    idempotency_fingerprint: Mapped[str | None] = mapped_column(comment="sha256 of the body that the key came with.")
