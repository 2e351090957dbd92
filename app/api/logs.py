"""What a job's stages logged: JSON, or lines to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse

from app.api import example_errors, example_specs, examples
from app.api.events import TAG
from app.api.responses import BAD_PATH, BAD_QUERY, UNAUTHORIZED, problems
from app.db.session import SessionFactory
from app.db.tables.job_records import Event as EventRow
from app.deps import Caller, FactoryDep
from app.http.negotiation import preferred
from app.services import events as service
from secateur.schemas.events import LogLine, LogPage

router = APIRouter(prefix="/jobs/{job_id}", tags=[TAG.name])

LINES = 1000  # read at once for the text


@router.get(
    "/logs",
    summary="Read a job's log",
    response_model=LogPage,
    responses={
        200: {
            "description": "A page of the log; or the whole log as text, with `Accept: text/plain`.",
            "content": {
                "application/json": {"example": examples.LOG_PAGE},
                "text/plain": {"schema": {"type": "string"}, "example": examples.LOG_TEXT},
            },
        },
        **problems(
            UNAUTHORIZED,
            example_errors.NO_JOB,
            example_errors.NOT_ACCEPTABLE,
            BAD_PATH,
            BAD_QUERY,
            instance=example_specs.JOB_PATH + "/logs",
        ),
    },
)
def list_logs(
    job_id: UUID,
    factory: FactoryDep,
    _: Caller,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="Only lines with a greater `seq`.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Lines on a JSON page.")] = 100,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Lines of all stages, oldest first: time, level, stage and attempt, message."""
    if preferred(accept, ["application/json", "text/plain"]) == "application/json":
        batch = service.read(factory, job_id, after=after, limit=limit, types=["log"])
        page = LogPage(
            data=[_line(event) for event in batch.events],
            has_more=batch.has_more,
            next_after=batch.events[-1].seq if batch.events else after,
        )
        return JSONResponse(page.model_dump(mode="json"), headers={"Vary": "Accept"})
    first = service.read(factory, job_id, after=after, limit=LINES, types=["log"])
    return StreamingResponse(_text(factory, job_id, first), media_type="text/plain", headers={"Vary": "Accept"})


def _line(row: EventRow) -> LogLine:
    return LogLine(
        seq=row.seq,
        created_at=row.created_at,
        level=row.level,  # type: ignore[arg-type]  # the table's CHECK has the same four values
        stage=row.stage,
        attempt=row.attempt,
        request_id=row.request_id,
        message=str(row.data.get("message", "")),
    )


def _text(factory: SessionFactory, job_id: UUID, batch: service.EventBatch) -> Iterator[str]:
    """Lines as they are read, a batch in memory at a time."""
    while True:
        for row in batch.events:
            line = _line(row)
            place = f"{line.stage}#{line.attempt}" if line.stage else "job"
            stamp = line.created_at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
            yield f"{stamp} {line.level.upper():7} {place:12} {line.message}\n"
        if not batch.has_more:
            return
        batch = service.read(factory, job_id, after=batch.events[-1].seq, limit=LINES, types=["log"])
