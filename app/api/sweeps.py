"""Sweeps: one spec, many jobs, one report."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response

from app.api.example_sweeps import (
    BAD_ID,
    EXAMPLE,
    EXAMPLE_PAGE,
    NO_SWEEP,
    NOT_OVER,
    NOT_RETRIABLE,
    PATH,
    SUBMIT,
    SUBMIT_ERRORS,
)
from app.api.headers import CancelAfter, IdempotencyKey
from app.api.parameters import PartOfId
from app.api.responses import BAD_QUERY, BODY_ERRORS, FOREIGN_PAGE, UNAUTHORIZED, Tag, example, problems
from app.deps import Caller, WorkDep, transaction
from app.http import cursor as cursors
from app.http.deadline import parse_duration
from app.services import sweeps as service
from secateur.contract.sweep import SweepSpec
from secateur.schemas.page import Page
from secateur.schemas.sweeps import Sweep, SweepSummary

TAG = Tag("sweeps", "Many jobs that differ in a few fields, and what the best of them is.", place=4)
router = APIRouter(prefix="/sweeps", tags=[TAG.name])


@router.post(
    "",
    status_code=202,
    summary="Submit a sweep",
    responses={
        202: {
            **example(EXAMPLE, description="Queued, now or by an earlier request with this key."),
            "headers": {
                "Location": {"description": "Where the sweep is.", "schema": {"type": "string"}},
                "Idempotent-Replayed": {
                    "description": "`true` where an earlier request with the same key had made the sweep.",
                    "schema": {"type": "string"},
                },
            },
        },
        **problems(UNAUTHORIZED, FOREIGN_PAGE, *BODY_ERRORS, *SUBMIT_ERRORS, instance="/sweeps"),
    },
)
@transaction
def submit_sweep(
    asked: Annotated[SweepSpec, Body(openapi_examples=SUBMIT)],
    response: Response,
    work: WorkDep,
    caller: Caller,
    idempotency_key: IdempotencyKey = None,
    cancel_after: CancelAfter = None,
) -> Sweep:
    """Checks every point, and makes all of their jobs or none.

    Jobs share every stage that has the same input and options, so points that differ in how much goes score once. A
    point that fails fails no other.
    """
    submitted = service.submit(
        work,
        asked,
        caller=caller,
        idempotency_key=idempotency_key,
        cancel_after=parse_duration(cancel_after) if cancel_after is not None else None,
    )
    response.headers["Location"] = f"/sweeps/{submitted.id}"
    if submitted.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return service.shown(work.session, submitted.id)


@router.get(
    "",
    summary="List sweeps, newest first",
    responses={
        200: {
            **example(EXAMPLE_PAGE),
            "headers": {"Link": {"description": "The next page, if there is one.", "schema": {"type": "string"}}},
        },
        **problems(UNAUTHORIZED, BAD_QUERY, instance="/sweeps"),
    },
)
@transaction
def list_sweeps(
    response: Response,
    work: WorkDep,
    _: Caller,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Sweeps on a page.")] = 20,
    id: PartOfId = None,
) -> Page[SweepSummary]:
    """A page of sweeps; it stays right while others are made."""
    page, shown = service.list_sweeps(work.session, cursor=cursor, limit=limit, part=id)
    next_cursor = cursors.encode(page.sweeps[-1].id) if page.has_more else None
    if next_cursor is not None:
        kept = {"limit": limit, "id": id, "cursor": next_cursor}
        query = urlencode({name: value for name, value in kept.items() if value is not None})
        response.headers["Link"] = f'</sweeps?{query}>; rel="next"'
    return Page[SweepSummary](data=shown, has_more=page.has_more, next_cursor=next_cursor)


@router.get(
    "/{sweep_id}",
    summary="Read a sweep",
    responses={200: example(EXAMPLE), **problems(UNAUTHORIZED, NO_SWEEP, BAD_ID, instance=PATH)},
)
@transaction
def get_sweep(sweep_id: UUID, work: WorkDep, _: Caller) -> Sweep:
    """The sweep with its points: what each differs in, its job, and how that stands."""
    return service.shown(work.session, sweep_id)


@router.post(
    "/{sweep_id}/cancel",
    summary="Cancel a sweep",
    responses={
        200: example(EXAMPLE),
        **problems(UNAUTHORIZED, FOREIGN_PAGE, NO_SWEEP, BAD_ID, instance=PATH + "/cancel"),
    },
)
@transaction
def cancel_sweep(sweep_id: UUID, work: WorkDep, _: Caller) -> Sweep:
    """Asks for all of its jobs to end. What has succeeded stays, and asking again, or late, changes nothing."""
    service.cancel(work, sweep_id)
    return service.shown(work.session, sweep_id)


@router.post(
    "/{sweep_id}/retry",
    status_code=202,
    summary="Retry a sweep",
    responses={
        202: example(EXAMPLE, description="Failed and cancelled points are queued again."),
        **problems(UNAUTHORIZED, FOREIGN_PAGE, NO_SWEEP, NOT_RETRIABLE, BAD_ID, instance=PATH + "/retry"),
    },
)
@transaction
def retry_sweep(sweep_id: UUID, work: WorkDep, _: Caller) -> Sweep:
    """Queues the jobs again that have failed or were cancelled; what has succeeded is not run again."""
    service.retry(work, sweep_id)
    return service.shown(work.session, sweep_id)


@router.delete(
    "/{sweep_id}",
    status_code=204,
    summary="Delete a sweep",
    responses={
        204: {"description": "The sweep, its jobs and their files are gone."},
        **problems(UNAUTHORIZED, FOREIGN_PAGE, NO_SWEEP, NOT_OVER, BAD_ID, instance=PATH),
    },
)
@transaction
def delete_sweep(sweep_id: UUID, work: WorkDep, _: Caller) -> None:
    """Deletes a sweep that is over, with its jobs and their files, but for those that another job shares."""
    service.delete(work, sweep_id)
