"""One thing that a reader of a report may run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """Lines that are copied by themselves."""

    key: str
    title: str
    code: str
    note: str = ""
