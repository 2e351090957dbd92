"""Jobs: submit, list, read, cancel, retry, delete."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response

from app.api import example_errors, example_specs, examples
from app.api.headers import CancelAfter, IdempotencyKey
from app.api.parameters import PartOfId
from app.api.responses import (
    BAD_PATH,
    BAD_QUERY,
    BODY_ERRORS,
    FOREIGN_PAGE,
    UNAUTHORIZED,
    Tag,
    answer,
    example,
    problems,
)
from app.deps import Caller, WorkDep, transaction
from app.http import cursor as cursors
from app.http.deadline import parse_duration
from app.services import jobs as service
from app.services import queue
from app.services.submit import submit
from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.jobs import State, Verdict
from secateur.contract.spec import CompressionSpec
from secateur.schemas.jobs import Job, JobSummary
from secateur.schemas.page import Page, page_of

TAG = Tag("jobs", "Submit, watch over, cancel, retry and delete compression jobs.", place=1)
router = APIRouter(prefix="/jobs", tags=[TAG.name])

NO_NUL = r"^[^\x00]*$"


@router.post(
    "",
    status_code=202,
    response_model=Job,
    summary="Submit a job",
    responses={
        202: {
            **example(examples.JOB_QUEUED, description="Queued, now or by an earlier request with this key."),
            "headers": {
                "Location": {"description": "Where the job is.", "schema": {"type": "string"}},
                "Idempotent-Replayed": {
                    "description": "`true` where an earlier request with the same key had made the job.",
                    "schema": {"type": "string"},
                },
            },
        },
        **problems(UNAUTHORIZED, FOREIGN_PAGE, *BODY_ERRORS, *example_errors.SUBMIT_ERRORS),
    },
)
@transaction
def submit_job(
    spec: Annotated[CompressionSpec, Body(openapi_examples=example_specs.SUBMIT)],
    work: WorkDep,
    caller: Caller,
    idempotency_key: IdempotencyKey = None,
    cancel_after: CancelAfter = None,
) -> Response:
    """Checks the body, queues the job and answers at once; follow it by its events.

    Only a model and how much to remove are required. `GET /catalog` has all options and their
    defaults; `"preset": "shortened_llama"` is the paper's recipe.
    """
    submitted = submit(
        work,
        spec,
        caller=caller,
        idempotency_key=idempotency_key,
        cancel_after=parse_duration(cancel_after) if cancel_after is not None else None,
    )
    headers = {"Location": f"/jobs/{submitted.id}"}
    if submitted.replayed:
        headers["Idempotent-Replayed"] = "true"
    return answer(submitted.text, status=202, headers=headers)


@router.get(
    "",
    response_model=Page[JobSummary],
    summary="List jobs, newest first",
    responses={
        200: {
            **example(examples.JOB_PAGE),
            "headers": {"Link": {"description": "The next page, if there is one.", "schema": {"type": "string"}}},
        },
        **problems(UNAUTHORIZED, BAD_QUERY),
    },
)
@transaction
def list_jobs(
    work: WorkDep,
    _: Caller,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Jobs on a page.")] = 20,
    status: Annotated[State | None, Query(description="Only jobs in this state.")] = None,
    verdict: Annotated[Verdict | None, Query(description="Only jobs with this verdict.")] = None,
    model: Annotated[
        str | None, Query(max_length=4096, pattern=NO_NUL, description="Only jobs on exactly this hub id or path.")
    ] = None,
    label: Annotated[
        list[str] | None,
        Query(max_length=32, description="Only jobs with this label, as name=value; all of them, if repeated."),
    ] = None,
    id: PartOfId = None,
) -> Response:
    """A page of jobs. It stays right while jobs arrive: no job comes twice, and none is missed."""
    page = service.list_jobs(
        work.one_statement(),
        cursor=cursor,
        limit=limit,
        state=status,
        verdict=verdict,
        model=model,
        labels=_labels(label or []),
        part=id,
    )
    next_cursor = cursors.encode(page.last) if page.has_more and page.last else None
    headers = {}
    if next_cursor is not None:
        kept = {"limit": limit, "status": status, "verdict": verdict, "model": model, "id": id}
        query = [(name, value) for name, value in kept.items() if value is not None]
        query += [("label", item) for item in label or []] + [("cursor", next_cursor)]
        headers["Link"] = f'</jobs?{urlencode(query)}>; rel="next"'
    return answer(page_of(page.jobs, has_more=page.has_more, next_cursor=next_cursor), headers=headers)


def _labels(pairs: list[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals or "\0" in pair:
            detail = "a label filter is written name=value"
            raise InvalidInput(detail, errors=[FieldError("", detail, pair, "name=value", "query label")])
        labels[name] = value
    return labels


@router.get(
    "/{job_id}",
    response_model=Job,
    summary="Read a job",
    responses={
        200: example(examples.JOB_SUCCEEDED),
        **problems(UNAUTHORIZED, example_errors.NO_JOB, BAD_PATH, instance=example_specs.JOB_PATH),
    },
)
@transaction
def get_job(job_id: UUID, work: WorkDep, _: Caller) -> Response:
    """The job with its stages and their progress, and the spec with every default filled in."""
    return answer(queue.job_as_json(work.one_statement(), job_id))


@router.post(
    "/{job_id}/cancel",
    response_model=Job,
    summary="Cancel a job",
    responses={
        200: example(examples.JOB_CANCELLING),
        **problems(
            UNAUTHORIZED, FOREIGN_PAGE, example_errors.NO_JOB, BAD_PATH, instance=example_specs.JOB_PATH + "/cancel"
        ),
    },
)
@transaction
def cancel_job(job_id: UUID, work: WorkDep, _: Caller) -> Response:
    """Asks for the job to end; its running stage is stopped within seconds. Asking again, or late, changes nothing."""
    service.cancel(work, job_id)
    return answer(queue.job_as_json(work.session, job_id))


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model=Job,
    summary="Retry a job",
    responses={
        202: example(examples.JOB_QUEUED, description="The job is queued again."),
        **problems(
            UNAUTHORIZED,
            FOREIGN_PAGE,
            example_errors.NO_JOB,
            example_errors.NOT_RETRIABLE,
            BAD_PATH,
            instance=example_specs.JOB_PATH + "/retry",
        ),
    },
)
@transaction
def retry_job(job_id: UUID, work: WorkDep, _: Caller) -> Response:
    """Queues a failed or cancelled job again, from its last checkpoint; stages that succeeded are not run again."""
    service.retry(work, job_id)
    return answer(queue.job_as_json(work.session, job_id), status=202)


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Delete a job",
    responses={
        204: {"description": "The job, its history and its files are gone."},
        **problems(
            UNAUTHORIZED,
            FOREIGN_PAGE,
            example_errors.NO_JOB,
            example_errors.NOT_OVER,
            BAD_PATH,
            instance=example_specs.JOB_PATH,
        ),
    },
)
@transaction
def delete_job(job_id: UUID, work: WorkDep, _: Caller) -> None:
    """Deletes a job that is over, with its files, but for those that another job shares."""
    service.delete(work, job_id)
