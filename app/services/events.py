"""Pages of a job's history, and the live stream of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from app.db import events, jobs
from app.db.session import SessionFactory, unit_of_work
from app.db.tables.job_records import Event
from app.db.threads import in_turn
from app.services.event_hub import EventHub

BATCH = 500  # events read at once by a stream


@dataclass(frozen=True)
class EventBatch:
    """Events after a number, and what was known of the job in the same transaction."""

    events: list[Event]
    has_more: bool
    over: bool  # the job is in a terminal state, and these are the last events


def read(
    factory: SessionFactory, job_id: UUID, *, after: int, limit: int, types: Collection[str] | None = None
) -> EventBatch:
    """The events numbered above `after`, at most `limit`. Raises NotFound."""
    with unit_of_work(factory) as session:
        # one snapshot for the job and its events: a retry between two reads must not look like an end
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        job = jobs.get(session, job_id)
        found = events.after(session, job_id, after, limit + 1, types)
        has_more = len(found) > limit
        return EventBatch(found[:limit], has_more, over=job.state.terminal and not has_more)


async def stream(
    factory: SessionFactory,
    hub: EventHub,
    job_id: UUID,
    *,
    after: int,
    types: Collection[str] | None = None,
    ping_seconds: float = 15.0,
) -> AsyncIterator[Event | None]:
    """Every event above `after` as it is committed, without a gap; None where nothing came for `ping_seconds`.

    Ends behind the event that ended the job; a job that is retried goes on, so only its last end counts. Where too
    many streams are open it ends behind the last event of now. Each turn reads from the database, which numbers events
    in the order of their commits: a notification that was lost delays an event, and never loses one.
    """
    with hub.subscribe(job_id) as subscription:
        while True:
            subscription.clear()  # before reading: what is committed after this point wakes us again
            batch = await in_turn(partial(read, factory, job_id, after=after, limit=BATCH, types=types))
            for event in batch.events:
                yield event
                after = event.seq
            if batch.over or hub.closing:
                return
            if not batch.has_more and not subscription.stays:
                return
            if not batch.has_more and not await subscription.wait(ping_seconds):
                yield None
