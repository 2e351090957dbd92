"""How a sweep goes, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import cast
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from app.api.events import EVENT_STREAM, RECONNECT_MILLISECONDS
from app.api.example_sweeps import BAD_ID, CHANGES, NO_SWEEP, PATH
from app.api.responses import UNAUTHORIZED, problems
from app.api.sweeps import TAG
from app.db.threads import in_turn
from app.deps import Caller, FactoryDep
from app.services import sweep_events as service
from app.services.event_hub import EventHub
from secateur.schemas.sweeps import SweepChange

router = APIRouter(prefix="/sweeps/{sweep_id}", tags=[TAG.name])

EVENT = "sweep"  # the type of all that is told


@router.get(
    "/events",
    summary="Follow a sweep",
    response_class=Response,
    responses={
        200: {
            "description": "A stream that ends when all points are over.",
            "content": {EVENT_STREAM: {"schema": {"type": "string"}, "example": CHANGES}},
        },
        **problems(UNAUTHORIZED, NO_SWEEP, BAD_ID, instance=f"{PATH}/events"),
    },
)
async def follow_sweep(request: Request, sweep_id: UUID, factory: FactoryDep, _: Caller) -> Response:
    """Server-sent events of the type `sweep`: the first has all points as they stand, each later one those that stand
    otherwise. Whoever lost the connection connects again and has the whole; comments keep it alive."""
    sweep = await in_turn(partial(service.read, factory, sweep_id))  # no such sweep: 404 before a stream
    hub = cast(EventHub, request.app.state.event_hub)
    changes = service.stream(factory, hub, sweep, ping_seconds=request.app.state.ping_seconds)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_encode(changes), media_type=EVENT_STREAM, headers=headers)


async def _encode(changes: AsyncIterator[SweepChange | None]) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RECONNECT_MILLISECONDS)
    async for change in changes:
        yield KEEPALIVE_COMMENT if change is None else format_sse_event(data_str=change.model_dump_json(), event=EVENT)
