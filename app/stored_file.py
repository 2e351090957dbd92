"""A file that a stage or a user has handed over: as the store holds it, and as the database tells of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StoredFile:
    """A file that the store holds."""

    path: str  # relative to the folder that was put, with forward slashes
    key: str
    size: int  # bytes
    sha256: str
    content_type: str
