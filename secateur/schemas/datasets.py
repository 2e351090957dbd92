"""Uploaded data sets."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from secateur.contract.datasets import DatasetFormat, DatasetKind
from secateur.schemas.base import Body, Timestamp


class Dataset(Body):
    """One data set; a job's text names it as `{"source": "upload", "id": …}`."""

    id: UUID
    name: str = Field(description="As it was first uploaded.")
    format: DatasetFormat
    kind: DatasetKind = Field(
        description="What rows hold: `text`, `alpaca` (instruction, input, output) or `chat` (messages)."
    )
    rows: int = Field(description="Objects; of a plain text, lines.")
    size: int = Field(description="Bytes.")
    sha256: str = Field(description="Of the whole file, in hexadecimal.")
    created_at: Timestamp
