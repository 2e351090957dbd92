"""Data sets: upload, list, read, look at rows, download, delete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.api import example_errors
from app.api.artifacts import FILE_RESPONSES, IfNoneMatch, IfRange, RangeHeader, file_response
from app.api.example_specs import JOB_ID
from app.api.responses import BAD_QUERY, FOREIGN_PAGE, UNAUTHORIZED, Tag, example, problems
from app.db import datasets as datasets_db
from app.db.session import unit_of_work
from app.deps import Caller, FactoryDep, SettingsDep, StoreDep, WorkDep, transaction
from app.http import cursor as cursors
from app.http.multipart import FormReceiver, ReceivedForm
from app.services import dataset_rows
from app.services import datasets as service
from secateur.contract.datasets import DatasetFormat
from secateur.contract.errors import (
    BadRequest,
    Conflict,
    FieldError,
    InsufficientStorage,
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from secateur.contract.expectations import A_UUID
from secateur.schemas.datasets import Dataset, DatasetRows
from secateur.schemas.page import Page

TAG = Tag("datasets", "Texts and instruction data of your own, to score on, train on and measure on.", place=5)
router = APIRouter(prefix="/datasets", tags=[TAG.name])

EXAMPLE_ID = "019ab8e2-3f40-7d21-8a55-6c1de0b7f913"
_PATH = f"/datasets/{EXAMPLE_ID}"
_NO_DATASET = NotFound(f"there is no data set {EXAMPLE_ID}")
IN_USE = Conflict(f"data set {EXAMPLE_ID} is used by job {JOB_ID}, which is not over; cancel it or wait for its end")
UPLOAD_ERRORS = (
    BadRequest("the body is cut short: its closing boundary is missing"),
    PayloadTooLarge("the file has more than 1,073,741,824 bytes, which is the limit (SECATEUR_MAX_DATASET_BYTES)"),
    UnsupportedMediaType("the body's Content-Type is application/json; it must be multipart/form-data"),
    InvalidInput(
        "line 3 has no string as `output`",
        errors=[FieldError("/file/output", "line 3 has no string as `output`", 42, "a string", line=3)],
    ),
    InvalidInput(
        "`sha256` must be 64 hexadecimal digits",
        errors=[FieldError("/sha256", "`sha256` must be 64 hexadecimal digits", "abc", "the file's sha256")],
    ),
    InsufficientStorage("there is no room left to store this; nothing of it was kept"),
)

EXAMPLE: dict[str, Any] = {
    "id": EXAMPLE_ID,
    "name": "alpaca.jsonl",
    "format": "jsonl",
    "kind": "alpaca",
    "rows": 52_002,
    "size": 22_773_992,
    "sha256": "9c1f3d54f28c9f2c6a5a7c8e0b7c0f4d1f1a35e6c7f2b9d8e4a1c3b5d7f90a12",
    "created_at": "2026-11-24T18:25:11.420000Z",
}
EXAMPLE_PAGE = {"data": [EXAMPLE], "has_more": False, "next_cursor": None}

EXAMPLE_ROWS: dict[str, Any] = {
    "data": [
        {
            "number": 1,
            "fields": {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]},
            "cut": False,
            "seen": {
                "parts": [
                    {"text": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "learnt": False},
                    {"text": "Hello!<|im_end|>\n", "learnt": True},
                ],
                "tokens": 13,
                "learnt": 4,
                "cut": False,
                "problem": None,
            },
        }
    ],
    "model": "smollm2",
}
_NO_MODEL = "there is no such model under the model roots"
NO_SUCH_MODEL = InvalidInput(
    _NO_MODEL,
    errors=[
        FieldError("", _NO_MODEL, "nope", "a path under one of the folders in SECATEUR_MODEL_ROOTS", "query model")
    ],
)
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
            **example(EXAMPLE, description="The data set is stored."),
            "headers": {"Location": {"description": "Where it is.", "schema": {"type": "string"}}},
        },
        200: {
            **example(EXAMPLE, description="A data set of this very content was there; this is it."),
            "headers": {"Location": {"description": "Where it is.", "schema": {"type": "string"}}},
        },
        **problems(UNAUTHORIZED, FOREIGN_PAGE, *UPLOAD_ERRORS, instance="/datasets"),
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
            **example(EXAMPLE_PAGE),
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
        200: example(EXAMPLE),
        **problems(UNAUTHORIZED, _NO_DATASET, _BAD_ID, instance=_PATH),
    },
)
@transaction
def get_dataset(dataset_id: UUID, work: WorkDep, _: Caller) -> Dataset:
    """What is known of it: format, kind, rows, size and checksum."""
    return Dataset.model_validate(datasets_db.get(work.session, dataset_id))


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
            _NO_DATASET,
            example_errors.BAD_RANGE,
            _BAD_ID,
            instance=_PATH + "/content",
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
        row = datasets_db.get(session, dataset_id)
    content = _Content(row.name, row.key, row.size, row.sha256, _CONTENT_TYPES[row.format])
    return file_response(
        content,
        store,
        method=request.method,
        range_header=range_header,
        if_range=if_range,
        if_none_match=if_none_match,
    )


@router.get(
    "/{dataset_id}/rows",
    summary="Look at a data set's first rows",
    responses={
        200: example(EXAMPLE_ROWS),
        **problems(UNAUTHORIZED, _NO_DATASET, _BAD_ID, BAD_QUERY, NO_SUCH_MODEL, instance=_PATH + "/rows"),
    },
)
def preview_dataset(
    dataset_id: UUID,
    factory: FactoryDep,
    store: StoreDep,
    settings: SettingsDep,
    _: Caller,
    limit: Annotated[int, Query(ge=1, le=100, description="Rows, at most.")] = 10,
    characters: Annotated[
        int, Query(ge=1, le=20_000, description="Of each row, and of what a model sees of it, at most.")
    ] = 2_000,
    model: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=4096,
            description="A local model, as a job names it: what it sees of each row is given too, after its chat "
            "template, with the tokens counted. Takes some seconds.",
        ),
    ] = None,
) -> DatasetRows:
    """The first rows, as far as they stand in the first 1,048,576 bytes; one that goes on beyond is the last, and cut.

    With a model, also what a training on the row sees with the defaults of a recovery, and which of it is learnt.
    """
    asked = dataset_rows.Asked(limit, characters, model)
    return dataset_rows.preview(factory, store, settings, dataset_id, asked)


@router.delete(
    "/{dataset_id}",
    status_code=204,
    summary="Delete a data set",
    responses={
        204: {"description": "The data set and its file are gone."},
        **problems(
            UNAUTHORIZED,
            FOREIGN_PAGE,
            _NO_DATASET,
            IN_USE,
            _BAD_ID,
            instance=_PATH,
        ),
    },
)
@transaction
def delete_dataset(dataset_id: UUID, work: WorkDep, store: StoreDep, _: Caller) -> None:
    """Deletes a data set that no job which is not over uses. Reports keep its name and checksum."""
    service.delete(work, store, dataset_id)
