"""Uploaded data sets."""

from __future__ import annotations

from typing import Any
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


class SeenPart(Body):
    """A run of text that is all learnt from, or not at all."""

    text: str = Field(description="As the tokens read, special ones included.")
    learnt: bool = Field(description="Whether a training takes its loss on it: an answer, or all of a plain text.")


class SeenRow(Body):
    """A row through a model's chat template and its tokenizer, as a recovery trains on it by default."""

    parts: list[SeenPart] = Field(default=[], description="The text, in order.")
    tokens: int | None = Field(default=None, description="Of the whole row.")
    learnt: int | None = Field(default=None, description="Tokens of it that a training takes its loss on.")
    cut: bool = Field(default=False, description="Whether the text goes on beyond what is given.")
    problem: str | None = Field(default=None, description="Why the model cannot take this row.")


class DatasetRow(Body):
    """One row of a data set."""

    number: int = Field(description="Line, item or row in the file, from 1.")
    fields: dict[str, Any] = Field(description="Those that its kind has; of a plain text, its beginning as `text`.")
    cut: bool = Field(description="Whether something of it was left out.")
    seen: SeenRow | None = Field(default=None, description="What the model that was named sees of it.")


class DatasetRows(Body):
    """The first rows of a data set."""

    data: list[DatasetRow]
    model: str | None = Field(default=None, description="Through whose tokenizer they were seen.")
