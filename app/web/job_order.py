"""In which order the list shows jobs: the newest first, or by a column.

Figures stand in reports and have no index, so it is the newest jobs that are put in order, as many as a reader looks
through; filters and a search narrow what they are taken from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from app.web.job_figures import Figures
from secateur.contract.metrics import METRICS
from secateur.schemas.jobs import Job

NEWEST = 200  # jobs that are put in order
USUAL = "submitted"
_PLAIN = {"model": False, "took": False, USUAL: True}  # whether the greatest comes first when a column is first chosen


@dataclass(frozen=True)
class JobOrder:
    """A column, and whether the greatest comes first."""

    key: str = USUAL
    down: bool = True

    @classmethod
    def read(cls, text: str, metrics: Sequence[str]) -> JobOrder:
        """As an address has it, `speedup` or `-speedup`; the usual one where it names no column."""
        key = text.removeprefix("-")
        return cls(key, text.startswith("-")) if key in (*_PLAIN, *metrics) else cls()

    @property
    def written(self) -> str:
        """As an address has it; empty for the usual one."""
        return "" if self == JobOrder() else ("-" if self.down else "") + self.key

    def towards(self, key: str) -> str:
        """What the heading of a column leads to: its better end first, and where that is so, the other way round."""
        best = _PLAIN[key] if key in _PLAIN else METRICS[key].judged_higher
        return JobOrder(key, not self.down if key == self.key else best).written

    def applied(self, jobs: Sequence[Job], figures: Mapping[UUID, Figures]) -> list[Job]:
        """The jobs in this order, those that have nothing in the column last."""
        values = {job.id: self._value(job, figures.get(job.id, {})) for job in jobs}
        there = [job for job in jobs if values[job.id] is not None]
        there.sort(key=lambda job: values[job.id], reverse=self.down)  # type: ignore[arg-type,return-value]  # alike
        return [*there, *(job for job in jobs if values[job.id] is None)]

    def _value(self, job: Job, figures: Figures) -> float | str | datetime | None:
        if self.key == "model":
            return job.model.lower()
        if self.key == USUAL:
            return job.created_at
        if self.key == "took":
            over = job.finished_at or datetime.now(UTC)
            return None if job.started_at is None else (over - job.started_at).total_seconds()
        return figures[self.key].number if self.key in figures else None
