"""How long work tells where it stands: a callable that takes done, total and the unit of both."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives `done` of `total` units of work, such as blocks or steps; it must return quickly."""

    def __call__(self, done: int, total: int, unit: str) -> None: ...


def no_progress(done: int, total: int, unit: str) -> None:
    """Ignore progress: the default where nobody watches."""


class Meter:
    """Progress of work whose parts cost differently: what is told as done is in proportion to the time that it takes.

    The costs are in one unit, such as one pass of a batch through a block, of which the head may be worth several.
    """

    def __init__(self, progress: Progress, total: float, unit: str) -> None:
        self._progress = progress
        self._total = max(1, round(total))
        self._unit = unit
        self._done = 0.0

    def add(self, cost: float) -> None:
        """Count a part that is done."""
        self._done += cost
        self._progress(min(round(self._done), self._total), self._total, self._unit)

    def finish(self) -> None:
        """The rest needs no work."""
        self.add(max(0.0, self._total - self._done))
