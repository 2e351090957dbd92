"""What a waiting job waits behind, and how long stages took here, as `estimates/waiting.py` of the contract asks."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import text

from app.db.queue_place import QueuePlace
from app.db.session import Database
from secateur.contract.estimates.waiting import Held, Load, Times, Work

_SAMPLE = 50  # jobs that have not begun, which tell how long one takes
_NEWEST = 50  # stages of a kind

_LEFT = text(
    """
    SELECT job.id, job.state AS job_state, job.model_id, stage.kind, stage.state,
           stage.enqueued_at IS NOT NULL AS turn, cardinality(stage.needs) = 0 AS first,
           coalesce(EXTRACT(EPOCH FROM now() - stage.started_at), 0) AS elapsed,
           (SELECT coalesce(sum(slots), 0) FROM workers WHERE up_until > now() AND device IS NOT NULL) AS slots
    FROM (
        SELECT id, state, model_id FROM jobs WHERE state IN ('running', 'cancelling')
        UNION
        SELECT id, state, model_id FROM jobs WHERE id = :id
        UNION
        (SELECT id, state, model_id FROM jobs WHERE state = 'queued' ORDER BY id DESC LIMIT :sample)
    ) AS job
    JOIN stages AS stage ON stage.job_id = job.id
    WHERE stage.state IN ('queued', 'running', 'cancelling')
    """
)
_TIMES = text(
    """
    SELECT asked.kind, asked.model_id,
           coalesce(
               percentile_cont(0.5) WITHIN GROUP (ORDER BY past.seconds) FILTER (WHERE job.model_id = asked.model_id),
               percentile_cont(0.5) WITHIN GROUP (ORDER BY past.seconds)
           ) AS seconds
    FROM unnest(CAST(:kinds AS text[]), CAST(:models AS text[])) AS asked (kind, model_id)
    CROSS JOIN LATERAL (
        SELECT of.job_id, EXTRACT(EPOCH FROM of.finished_at - of.started_at) AS seconds
        FROM stages AS of
        WHERE of.kind = asked.kind AND of.state = 'succeeded' AND of.attempt = 1 AND of.memory IS NOT NULL
        ORDER BY of.id DESC LIMIT :newest
    ) AS past
    JOIN jobs AS job ON job.id = past.job_id
    GROUP BY asked.kind, asked.model_id
    """
)


def load_before(database: Database, job_id: UUID, place: QueuePlace) -> Load:
    """What has to be done before the job, which waits at this place."""
    rows = database.execute(_LEFT, {"id": job_id, "sample": _SAMPLE}).all()
    queued = [row for row in rows if row.state == "queued"]
    fresh = {row.id for row in queued if row.turn and row.first}
    begun = [row for row in queued if row.id != job_id and row.id not in fresh and row.job_state != "cancelling"]
    others: dict[UUID, list[Work]] = {}
    for row in queued:
        if row.id in fresh and row.id != job_id:
            others.setdefault(row.id, []).append((row.kind, row.model_id))
    return Load(
        position=place.position,
        slots=int(rows[0].slots) if rows else 0,
        has_begun=job_id not in fresh,
        left=[(row.kind, row.model_id) for row in queued if row.id == job_id],
        held=[Held((row.kind, row.model_id), float(row.elapsed)) for row in rows if row.state != "queued"],
        begun=[(row.kind, row.model_id) for row in begun],
        turns=sum(row.turn for row in begun),
        fresh=list(others.values()),
    )


def times_of(database: Database, work: Collection[Work]) -> Times:
    """The median time of the newest stages like these; nothing of those that have not run here."""
    asked = sorted(set(work))
    given = {"kinds": [kind for kind, _ in asked], "models": [model for _, model in asked], "newest": _NEWEST}
    return {(row.kind, row.model_id): float(row.seconds) for row in database.execute(_TIMES, given)}
