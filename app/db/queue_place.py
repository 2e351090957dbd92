"""Where a waiting job stands in the queue, and how many workers would take its stage."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from app.db.session import Database

# On a row of jobs named `job`: NULL unless one of its stages waits for a worker. The order is that of
# `stages.next_waiting`. Callers take turns, so of a job that has not begun there come before it the older ones of its
# own caller, and of each other caller as many, and one more at most.
QUEUE = """
    (
        SELECT json_build_object(
            'position', 1 + (
                SELECT count(*) FROM stages AS other JOIN jobs AS of ON of.id = other.job_id
                WHERE other.state = 'queued' AND other.enqueued_at IS NOT NULL AND (
                    of.priority > job.priority
                    OR of.priority = job.priority AND cardinality(other.needs) > 0
                       AND (cardinality(mine.needs) = 0 OR other.job_id < job.id)
                )
            ) + CASE WHEN cardinality(mine.needs) > 0 THEN 0 ELSE own.older + (
                SELECT coalesce(sum(least(waiting, own.older + 1)), 0) FROM (
                    SELECT count(*) AS waiting FROM jobs AS theirs
                    WHERE theirs.state = 'queued' AND theirs.priority = job.priority AND theirs.caller <> job.caller
                    GROUP BY theirs.caller
                ) AS others
            ) END,
            'workers', (SELECT count(*) FROM workers WHERE up_until > now() AND device IS NOT NULL)
        )
        FROM stages AS mine, LATERAL (
            SELECT count(*) AS older FROM jobs AS before
            WHERE before.state = 'queued' AND before.priority = job.priority AND before.caller = job.caller
            AND before.id < job.id
        ) AS own
        WHERE mine.job_id = job.id AND mine.state = 'queued' AND mine.enqueued_at IS NOT NULL
        AND job.state IN ('queued', 'running')
        ORDER BY mine.place LIMIT 1
    )
"""
_ASKED = text(f"SELECT {QUEUE} AS queue FROM jobs AS job WHERE job.id = :id")


@dataclass(frozen=True)
class QueuePlace:
    """Of a job one of whose stages waits for a worker."""

    position: int  # at the latest; 1: it is next
    workers: int  # that are up and take stages


def queue_place(database: Database, job_id: UUID) -> QueuePlace | None:
    """Where the job stands; None where nothing of it waits for a worker."""
    found = database.execute(_ASKED, {"id": job_id}).scalar_one_or_none()
    return None if found is None else QueuePlace(**found)
