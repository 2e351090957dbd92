"""How long work tells where it stands: a callable that takes done, total and the unit of both."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives `done` of `total` units of work, such as blocks or steps; it must return quickly."""

    def __call__(self, done: int, total: int, unit: str) -> None: ...


def no_progress(done: int, total: int, unit: str) -> None:
    """Ignore progress: the default where nobody watches."""
