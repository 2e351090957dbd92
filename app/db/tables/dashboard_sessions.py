"""Browsers that have logged in."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class DashboardSession(Base):
    """A browser that has logged in to the dashboard with an API key, until it logs out or its time is over."""

    __tablename__ = "dashboard_sessions"

    id: Mapped[str] = mapped_column(primary_key=True, comment="SHA-256 of the cookie, which is not kept.")
    proof: Mapped[str] = mapped_column(comment="HMAC of the id by the API key: without that key it opens nothing.")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
