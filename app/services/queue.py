"""A waiting job's place in the queue, with the times at which it is expected to begin and to end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.db import jobs
from app.db.queue_place import QueuePlace, queue_place
from app.db.queue_times import load_before, times_of
from app.db.session import Database
from secateur.contract.estimates.waiting import expected
from secateur.schemas import jobs as bodies


def job_as_json(database: Database, job_id: UUID) -> str:
    """The job as the API shows it. Raises NotFound."""
    written, waits = jobs.as_json(database, job_id)
    if not waits:
        return written
    job = json.loads(written)
    place = bodies.QueuePlace.model_validate(job["queue"])
    shown = _with_times(database, job_id, QueuePlace(place.position, place.workers))
    return json.dumps({**job, "queue": shown.model_dump(mode="json")}, ensure_ascii=False)


def place_of(database: Database, job_id: UUID) -> bodies.QueuePlace | None:
    """Where the job stands; None where nothing of it waits for a worker."""
    place = queue_place(database, job_id)
    return None if place is None else _with_times(database, job_id, place)


def _with_times(database: Database, job_id: UUID, place: QueuePlace) -> bodies.QueuePlace:
    load = load_before(database, job_id, place)
    asked = [*load.left, *load.begun, *(held.work for held in load.held), *(work for job in load.fresh for work in job)]
    found, now = expected(load, times_of(database, asked)), datetime.now(UTC)
    start, end = (
        None if seconds is None else now + timedelta(seconds=round(seconds)) for seconds in (found.start, found.end)
    )
    return bodies.QueuePlace(position=place.position, workers=place.workers, expected_start=start, expected_end=end)
