"""One example of instruction data: its tokens, and which of them are the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secateur.contract.datasets import FIELDS, DatasetKind, kind_of, row_error


@dataclass(frozen=True)
class Example:
    """Tokens of one example, and which of them are the answer."""

    ids: list[int]
    answer: list[bool]


def check_row(row: Any, kind: DatasetKind) -> None:
    """Raises ValueError: the row is not of this kind, in the words with which an upload is refused."""
    found = kind_of(row) if isinstance(row, Mapping) else None
    needed = [name for name in FIELDS[kind] if name != "input"]
    if found is not None and not set(needed) <= set(row):
        raise ValueError(f"it is of the kind {found.value}, and the format is {kind.value}")
    error = row_error(row, kind)
    if error is not None:
        raise ValueError(f"it {error.detail}; expected {error.expected}")
