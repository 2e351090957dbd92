"""The live stream of a sweep: how its points stand, and then each that stands otherwise.

It tells what is, and not what was: the first message has all points, so whoever lost the connection comes again and has
missed nothing that still counts. What happened to a job in what order is that job's own history.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from uuid import UUID

from app.db.session import SessionFactory, unit_of_work
from app.db.threads import in_turn
from app.services import sweeps
from app.services.event_hub import EventHub
from secateur.schemas.sweeps import Sweep, SweepChange

LEAST_SECONDS = 0.25  # between two looks, however many events come


def read(factory: SessionFactory, sweep_id: UUID) -> Sweep:
    """The sweep as it stands. Raises NotFound."""
    with unit_of_work(factory) as session:
        return sweeps.shown(session, sweep_id)


async def stream(
    factory: SessionFactory, hub: EventHub, sweep: Sweep, *, ping_seconds: float = 15.0
) -> AsyncIterator[SweepChange | None]:
    """Changes of a sweep that was just read, the first with all points; None where there was none for `ping_seconds`.

    Ends when all jobs are over. Where too many streams are open it ends behind what is now.
    """
    known: Sweep | None = None
    with hub.subscribe(*(point.job_id for point in sweep.points)) as subscription:
        while True:
            subscription.clear()  # before reading: what is committed after this point wakes us again
            sweep = await in_turn(partial(read, factory, sweep.id))
            before = {point.place: point for point in known.points} if known else {}
            changed = [point for point in sweep.points if point != before.get(point.place)]
            if changed or known is None:
                yield SweepChange.model_validate({**vars(sweep), "points": changed})
            known = sweep
            if sweep.state.terminal or hub.closing or not subscription.stays:
                return
            if await subscription.wait(ping_seconds):
                await asyncio.sleep(LEAST_SECONDS)
            else:
                yield None
