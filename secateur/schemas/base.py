"""What every response body has in common."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict


def _utc(value: object) -> object:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value


Timestamp = Annotated[AwareDatetime, BeforeValidator(_utc)]  # RFC 3339 in UTC: "2026-11-24T18:30:00.5Z"


class Body(BaseModel):
    """A response body: frozen, and read from a row by attribute."""

    model_config = ConfigDict(frozen=True, from_attributes=True)
