"""Data sets: upload, list, read, download, delete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.api import example_errors, examples
from app.api.artifacts import FILE_RESPONSES, IfNoneMatch, IfRange, RangeHeader, file_response
from app.api.responses import BAD_QUERY, FOREIGN_PAGE, UNAUTHORIZED, example, problems
from app.db import datasets as dataset_rows
from app.db.session import unit_of_work
from app.deps import Caller, FactoryDep, SettingsDep, StoreDep, WorkDep, transaction
from app.http import cursor as cursors
from app.http.multipart import FormReceiver, ReceivedForm
from app.services import datasets as service
from secateur.contract.datasets import DatasetFormat
from secateur.contract.errors import BadRequest, FieldError, InvalidInput
from secateur.contract.expectations import A_UUID
from secateur.schemas.datasets import Dataset
from secateur.schemas.page import Page

router = APIRouter(prefix="/datasets", tags=["datasets"])

_BAD_ID = InvalidInput(
    f"the path parameter dataset_id must be {A_UUID}",
    errors=[FieldError("", f"the path parameter dataset_id must be {A_UUID}", "7", A_UUID, "path dataset_id")],
)
_CONTENT_TYPES = {
    DatasetFormat.JSONL: "application/jsonl",
    DatasetFormat.TEXT: "text/plain; charset=utf-8",
    DatasetFormat.PARQUET: "application/vnd.apache.parquet",
}
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "The file itself."},
                        "name": {
                            "type": "string",
                            "maxLength": service.MAX_NAME,
                            "description": "For people; the file's own name if absent.",
                        },
                        "format": {
                            "type": "string",
                            "enum": [format.value for format in DatasetFormat],
                            "description": "How the file is written; by its name's ending if absent.",
                        },
                        "sha256": {
                            "type": "string",
                            "pattern": "^[0-9a-fA-F]{64}$",
                            "description": "What the file's checksum must be, in hexadecimal.",
                        },
                    },
                }
            }
        },
    }
}


@router.post(
    "",
    status_code=201,
    summary="Upload a data set",
    openapi_extra=_FORM,
    responses={
        201: {
            **example(examples.DATASET, description="The data set is stored."),
            "headers": {"Location": {"description": "Where it is.", "schema": {"type": "string"}}},
        },
        200: {
            **example(examples.DATASET, description="A data set of this very content was there; this is it."),
            "headers": {"Location": {"description": "Where it is.", "schema": {"type": "string"}}},
        },
        **problems(UNAUTHORIZED, FOREIGN_PAGE, *example_errors.UPLOAD_ERRORS, instance="/datasets"),
    },
)
async def create_dataset(
    request: Request,
    response: Response,
    factory: FactoryDep,
    store: StoreDep,
    settings: SettingsDep,
    _: Caller,
) -> Dataset:
    """Takes a file of JSON lines, plain text or Parquet, checks every row of it, and stores it under its checksum.

    Rows have `text`, or Alpaca's `instruction`, `input` and `output`, or chat `messages`; one kind in a file. The first
    bad line is named by its number, and nothing is stored then. The same content again gives the same data set.
    """
    manager = store.staging()
    folder = await run_in_threadpool(manager.__enter__)
    try:
        receiver = FormReceiver(
            request.headers.get("content-type"),
            folder,
            file_field="file",
            most_bytes=settings.max_dataset_bytes,
            setting=service.SETTING,
        )
        try:
            form = await _receive(request, receiver)
        finally:
            receiver.close()
        added = await run_in_threadpool(service.add, factory, store, form, most_bytes=settings.max_dataset_bytes)
    finally:
        await run_in_threadpool(manager.__exit__, None, None, None)
    response.status_code = 201 if added.created else 200
    response.headers["Location"] = str(request.app.url_path_for("get_dataset", dataset_id=str(added.dataset.id)))
    return Dataset.model_validate(added.dataset)


async def _receive(request: Request, receiver: FormReceiver) -> ReceivedForm:
    """The whole form; chunk by chunk, and off the event loop, since it is hashed and written."""
    try:
        async for chunk in request.stream():
            await run_in_threadpool(receiver.feed, chunk)
    except ClientDisconnect:
        raise BadRequest("the connection was closed before the whole body had come") from None
    return receiver.finish()


@router.get(
    "",
    summary="List data sets, newest first",
    responses={
        200: {
            **example(examples.DATASET_PAGE),
            "headers": {"Link": {"description": "The next page, if there is one.", "schema": {"type": "string"}}},
        },
        **problems(UNAUTHORIZED, BAD_QUERY, instance="/datasets"),
    },
)
@transaction
def list_datasets(
    response: Response,
    work: WorkDep,
    _: Caller,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Data sets on a page.")] = 20,
) -> Page[Dataset]:
    """A page of data sets; it stays right while others are added."""
    page = service.list_datasets(work, cursor=cursor, limit=limit)
    next_cursor = cursors.encode(page.datasets[-1].id) if page.has_more else None
    if next_cursor is not None:
        response.headers["Link"] = f'</datasets?limit={limit}&cursor={next_cursor}>; rel="next"'
    return Page[Dataset](
        data=[Dataset.model_validate(row) for row in page.datasets], has_more=page.has_more, next_cursor=next_cursor
    )


@router.get(
    "/{dataset_id}",
    summary="Read a data set",
    responses={
        200: example(examples.DATASET),
        **problems(UNAUTHORIZED, example_errors.NO_DATASET, _BAD_ID, instance=example_errors.DATASET_PATH),
    },
)
@transaction
def get_dataset(dataset_id: UUID, work: WorkDep, _: Caller) -> Dataset:
    """What is known of it: format, kind, rows, size and checksum."""
    return Dataset.model_validate(dataset_rows.get(work.session, dataset_id))


@dataclass(frozen=True)
class _Content:
    """A data set as a file to download."""

    path: str
    key: str
    size: int
    sha256: str
    content_type: str


@router.get(
    "/{dataset_id}/content",
    summary="Download a data set",
    response_class=Response,
    responses={
        **FILE_RESPONSES,
        **problems(
            UNAUTHORIZED,
            example_errors.NO_DATASET,
            example_errors.BAD_RANGE,
            _BAD_ID,
            instance=example_errors.DATASET_PATH + "/content",
        ),
    },
)
def download_dataset(
    request: Request,
    dataset_id: UUID,
    factory: FactoryDep,
    store: StoreDep,
    _: Caller,
    range_header: RangeHeader = None,
    if_range: IfRange = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The file as it was uploaded, byte for byte."""
    with unit_of_work(factory) as session:
        row = dataset_rows.get(session, dataset_id)
    content = _Content(row.name, row.key, row.size, row.sha256, _CONTENT_TYPES[row.format])
    return file_response(
        content,
        store,
        method=request.method,
        range_header=range_header,
        if_range=if_range,
        if_none_match=if_none_match,
    )


@router.delete(
    "/{dataset_id}",
    status_code=204,
    summary="Delete a data set",
    responses={
        204: {"description": "The data set and its file are gone."},
        **problems(
            UNAUTHORIZED,
            FOREIGN_PAGE,
            example_errors.NO_DATASET,
            example_errors.DATASET_IN_USE,
            _BAD_ID,
            instance=example_errors.DATASET_PATH,
        ),
    },
)
@transaction
def delete_dataset(dataset_id: UUID, work: WorkDep, store: StoreDep, _: Caller) -> None:
    """Deletes a data set that no job which is not over uses. Reports keep its name and checksum."""
    service.delete(work, store, dataset_id)
