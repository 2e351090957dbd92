"""The workers that are up."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Double, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class Worker(Base):
    """A worker that is up, or was: it renews its row as long as it lives, and takes it away when it stops."""

    __tablename__ = "workers"
    __table_args__ = (CheckConstraint("slots > 0", name="slots"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, comment="Another one after each start.")
    name: Mapped[str] = mapped_column(comment="Host and process; the claims of its stages begin with it.")
    host: Mapped[str]
    version: Mapped[str]
    slots: Mapped[int] = mapped_column(comment="Stages that it runs at a time.")
    stage_memory: Mapped[int] = mapped_column(BigInteger, comment="Bytes that each of them may use.")
    device: Mapped[str | None] = mapped_column(comment="cpu or cuda; NULL while none has been found to work.")
    device_name: Mapped[str | None]
    device_memory: Mapped[int | None] = mapped_column(BigInteger, comment="Bytes.")
    flops: Mapped[float | None] = mapped_column(
        Double, comment="Operations a second of its device, as its probe has measured them."
    )
    weights_read: Mapped[float | None] = mapped_column(Double, comment="Bytes of weights that it reads a second.")
    problem: Mapped[str | None] = mapped_column(comment="Why its device does not work, so that it takes no stage.")
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.now())
    up_until: Mapped[datetime] = mapped_column(comment="It counts as lost where it has not renewed its row by then.")
