"""The main figures of finished jobs for lists: read off a job's report once, since a report does not change.

A retried job may get another report, which is told by its time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from app.db import reports
from app.db.session import Database
from secateur.contract.report import Report
from secateur.report.figures import Headline, headlines

KNOWN = 2000  # jobs whose figures are kept

Figures = Mapping[str, Headline]  # by the metric's name


class JobFigures:
    """What lists know of the jobs that they showed; shared by the threads of a process."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[UUID, datetime], Figures] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, database: Database, job_ids: Iterable[UUID]) -> dict[UUID, Figures]:
        """Of those jobs that have a report."""
        times = reports.times(database, list(job_ids))
        with self._lock:
            found = {key[0]: self._known[key] for key in times.items() if key in self._known}
        for job_id, body in reports.bodies(database, [job_id for job_id in times if job_id not in found]).items():
            found[job_id] = {headline.metric: headline for headline in headlines(Report.model_validate(body))}
        with self._lock:
            for job_id, figures in found.items():
                self._known[job_id, times[job_id]] = figures
                self._known.move_to_end((job_id, times[job_id]))
            while len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return found
