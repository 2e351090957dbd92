"""A job's history: a JSON page, or server-sent events as they happen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from app.api import example_errors, example_specs, examples
from app.api.responses import BAD_PATH, BAD_QUERY, UNAUTHORIZED, Tag, problems
from app.db.tables.job_records import Event as EventRow
from app.db.threads import in_turn
from app.deps import Caller, FactoryDep
from app.http.negotiation import preferred
from app.services import events as service
from app.services.event_hub import EventHub
from secateur.schemas.events import Event, EventPage, EventType

TAG = Tag("events", "What happens to a job, as it happens.", place=2)
router = APIRouter(prefix="/jobs/{job_id}", tags=[TAG.name])

EVENT_STREAM = "text/event-stream"
RECONNECT_MILLISECONDS = 2000
MAX_SEQ = 2**63 - 1


@router.get(
    "/events",
    summary="What happened to a job, or happens",
    response_model=EventPage,
    responses={
        200: {
            "description": "A page of events; or, with `Accept: text/event-stream`, a stream that ends with the job.",
            "content": {
                "application/json": {"example": examples.EVENT_PAGE},
                EVENT_STREAM: {"schema": {"type": "string"}, "example": examples.EVENT_STREAM},
            },
        },
        **problems(
            UNAUTHORIZED,
            example_errors.NO_JOB,
            example_errors.NOT_ACCEPTABLE,
            BAD_PATH,
            BAD_QUERY,
            instance=example_specs.JOB_PATH + "/events",
        ),
    },
)
async def list_events(
    request: Request,
    job_id: UUID,
    factory: FactoryDep,
    _: Caller,
    after: Annotated[int, Query(ge=0, le=MAX_SEQ, description="Only events with a greater `seq`.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Events on a JSON page.")] = 100,
    type: Annotated[list[EventType] | None, Query(description="Only events of these types.")] = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
    last_event_id: Annotated[
        int | None,
        Header(ge=0, le=MAX_SEQ, description="Resume a stream behind this event; goes before `after`."),
    ] = None,
) -> Response:
    """Events are numbered from 1 without a gap. A stream sends each once, in order, with its number as the id, so
    a client that lost the connection resumes with `Last-Event-ID` and misses nothing; comments keep it alive. It ends
    behind the event that ended the job."""
    start = after if last_event_id is None else last_event_id
    if preferred(accept, ["application/json", EVENT_STREAM]) == EVENT_STREAM:
        await in_turn(partial(service.read, factory, job_id, after=start, limit=1))  # no such job: 404 before a stream
        hub = cast(EventHub, request.app.state.event_hub)
        stream = service.stream(
            factory, hub, job_id, after=start, types=type, ping_seconds=request.app.state.ping_seconds
        )
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(_encode(stream), media_type=EVENT_STREAM, headers=headers)
    batch = await in_turn(partial(service.read, factory, job_id, after=start, limit=limit, types=type))
    page = EventPage(
        data=[Event.model_validate(event) for event in batch.events],
        has_more=batch.has_more,
        next_after=batch.events[-1].seq if batch.events else start,
    )
    return JSONResponse(page.model_dump(mode="json"), headers={"Vary": "Accept"})


async def _encode(stream: AsyncIterator[EventRow | None]) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RECONNECT_MILLISECONDS)
    async for row in stream:
        if row is None:
            yield KEEPALIVE_COMMENT
        else:
            event = Event.model_validate(row)
            yield format_sse_event(data_str=event.model_dump_json(), event=event.type, id=str(event.seq))
