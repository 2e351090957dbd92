"""Sweeps: one spec, many jobs, one report."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response

from app.api import examples
from app.api.example_specs import LOCAL_GGUF, OTHER_JOB_ID
from app.api.headers import CancelAfter, IdempotencyKey
from app.api.responses import BAD_QUERY, BODY_ERRORS, FOREIGN_PAGE, UNAUTHORIZED, Tag, example, problems
from app.deps import Caller, WorkDep, transaction
from app.http import cursor as cursors
from app.http.deadline import parse_duration
from app.services import sweeps as service
from secateur.contract.errors import Conflict, FieldError, InvalidInput, NotFound
from secateur.contract.expectations import A_UUID
from secateur.contract.sweep import SweepSpec
from secateur.schemas.page import Page
from secateur.schemas.sweeps import Sweep, SweepSummary

TAG = Tag("sweeps", "Many jobs that differ in a few fields, and what the best of them is.", place=4)
router = APIRouter(prefix="/sweeps", tags=[TAG.name])

SWEEP_ID = "019ab8e4-1f20-7a4e-b1c3-9d2e6f708a15"
PATH = f"/sweeps/{SWEEP_ID}"

GRID: dict[str, Any] = {
    "spec": {
        "model": {"source": "local", "path": "SmolLM2-135M-Instruct.Q4_1.gguf"},
        "pruning": {"kind": "depth"},
        "recovery": {"kind": "healing"},
    },
    "grid": {"pruning.blocks": [3, 6, 9], "scoring.criterion": ["perplexity", "taylor"]},
    "gates": {"min_speedup": 1.2, "max_kl": 0.5},
    "labels": {"commit": "abc123"},
}
POINTS: dict[str, Any] = {
    "spec": {"model": LOCAL_GGUF["model"], "recovery": {"kind": "none"}},
    "points": [
        {"pruning": {"kind": "depth", "blocks": 6}},
        {"pruning": {"kind": "flap", "ratio": 0.2}},
    ],
}
SUBMIT: Any = {
    "grid": {
        "summary": "How much may go, by which criterion",
        "description": "Six jobs, of which those of one criterion share its scoring.",
        "value": GRID,
    },
    "points": {
        "summary": "Depth against width",
        "description": "Two jobs, each with a method of its own.",
        "value": POINTS,
    },
}
_SUMMARY: dict[str, Any] = {
    "id": SWEEP_ID,
    "state": "running",
    "verdict": "none",
    "model": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "labels": {"commit": "abc123"},
    "counts": {"queued": 4, "running": 1, "cancelling": 0, "succeeded": 1, "failed": 0, "cancelled": 0},
    "request_id": examples.REQUEST_ID,
    "created_at": "2026-11-24T18:30:00.104000Z",
    "finished_at": None,
}


def _point(place: int, blocks: int, criterion: str, **more: Any) -> dict[str, Any]:
    return {
        "place": place,
        "changes": {"pruning.blocks": blocks, "scoring.criterion": criterion},
        "job_id": f"{OTHER_JOB_ID[:-1]}{place}",
        "state": "queued",
        "verdict": "none",
        "stages": 6,
        "stages_done": 0,
        "running": [],
        "started_at": None,
        "finished_at": None,
        "problem": None,
        **more,
    }


_BEGUN = "2026-11-24T18:30:01.310000Z"
EXAMPLE: dict[str, Any] = {
    **_SUMMARY,
    "asked": GRID,
    "gates": {"judge": "interval", "min_speedup": 1.2, "max_kl": 0.5},
    "points": [
        _point(
            0,
            3,
            "perplexity",
            state="succeeded",
            verdict="failed",
            stages_done=6,
            started_at=_BEGUN,
            finished_at="2026-11-24T18:41:40.480000Z",
        ),
        _point(1, 3, "taylor", state="running", stages_done=2, running=["recover"], started_at=_BEGUN),
        *(
            _point(2 + number, blocks, criterion)
            for number, (blocks, criterion) in enumerate(
                [(6, "perplexity"), (6, "taylor"), (9, "perplexity"), (9, "taylor")]
            )
        ),
    ],
}
EXAMPLE_PAGE = {"data": [_SUMMARY], "has_more": False, "next_cursor": None}

NO_SWEEP = NotFound(f"there is no sweep {SWEEP_ID}")
NOT_RETRIABLE = Conflict(f"no point of sweep {SWEEP_ID} has failed or was cancelled, so there is none to retry")
NOT_OVER = Conflict(f"4 points of sweep {SWEEP_ID} are not over; cancel it, and delete it when it is")
BAD_ID = InvalidInput(
    f"the path parameter sweep_id must be {A_UUID}",
    errors=[FieldError("", f"the path parameter sweep_id must be {A_UUID}", "7", A_UUID, "path sweep_id")],
)
_MANY = f"the grid has 10,000 points; a sweep has at most 256 ({service.SETTING})"
_SUBMIT_ERRORS = (
    InvalidInput(_MANY, errors=[FieldError("/grid", _MANY, 10_000, "at most 256 points")]),
    InvalidInput(
        "`ratio` must be a number, above 0 and below 1",
        errors=[
            FieldError(
                "/grid/pruning.ratio/2",
                "`ratio` must be a number, above 0 and below 1",
                1.2,
                "a number, above 0 and below 1",
            )
        ],
    ),
)


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
        **problems(UNAUTHORIZED, FOREIGN_PAGE, *BODY_ERRORS, *_SUBMIT_ERRORS, instance="/sweeps"),
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
) -> Page[SweepSummary]:
    """A page of sweeps; it stays right while others are made."""
    page, shown = service.list_sweeps(work.session, cursor=cursor, limit=limit)
    next_cursor = cursors.encode(page.sweeps[-1].id) if page.has_more else None
    if next_cursor is not None:
        response.headers["Link"] = f'</sweeps?limit={limit}&cursor={next_cursor}>; rel="next"'
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
