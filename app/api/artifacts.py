"""The files that a job has published: a list, and each of them, in whole or in part."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Protocol
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from app.api import example_errors, example_specs, examples
from app.api.responses import BAD_PATH, UNAUTHORIZED, example, problems
from app.api.scores import TAG
from app.blobs.store import ArtifactStore
from app.db import artifacts as artifact_rows
from app.db import jobs as job_rows
from app.db.session import unit_of_work
from app.deps import Caller, FactoryDep, StoreDep, WorkDep, transaction
from app.http.ranges import matches, requested_range
from secateur.contract.errors import NotFound
from secateur.schemas.artifacts import Artifact, ArtifactList

router = APIRouter(prefix="/jobs/{job_id}/artifacts", tags=[TAG.name])

# What a stage wrote is shown as it is, and never acts as a page of this service.
SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"

FILE_HEADERS = {
    "ETag": {"description": "The file's sha256, in quotes.", "schema": {"type": "string"}},
    "X-Checksum-Sha256": {"description": "Of the whole file, in hexadecimal.", "schema": {"type": "string"}},
    "Repr-Digest": {"description": "The same, as RFC 9530 has it.", "schema": {"type": "string"}},
}
FILE_BODY = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
FILE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file.", "headers": FILE_HEADERS, "content": FILE_BODY},
    206: {
        "description": "The range that was asked for.",
        "headers": {
            **FILE_HEADERS,
            "Content-Range": {"description": "Which bytes of how many.", "schema": {"type": "string"}},
        },
        "content": FILE_BODY,
    },
    304: {"description": "The client has this version (If-None-Match)."},
}
RangeHeader = Annotated[
    str | None, Header(alias="Range", description="One range, such as bytes=0-1023 or bytes=-1024.")
]
IfRange = Annotated[str | None, Header(description="The ETag that the range belongs to.")]
IfNoneMatch = Annotated[str | None, Header(description="ETags that the client has.")]


@router.get(
    "",
    summary="List a job's files",
    responses={
        200: example(examples.ARTIFACT_LIST),
        **problems(UNAUTHORIZED, example_errors.NO_JOB, BAD_PATH, instance=example_specs.JOB_PATH + "/artifacts"),
    },
)
@transaction
def list_artifacts(job_id: UUID, work: WorkDep, _: Caller) -> ArtifactList:
    """What the stages have published so far, by path: the checkpoints, the scores, the report."""
    job_rows.get(work.session, job_id)
    rows = artifact_rows.list_for(work.session, job_id)
    return ArtifactList(data=[Artifact.model_validate(row) for row in rows])


@router.get(
    "/{path:path}",
    summary="Download a file",
    response_class=Response,
    responses={
        **FILE_RESPONSES,
        **problems(
            UNAUTHORIZED,
            example_errors.NO_ARTIFACT,
            example_errors.BAD_RANGE,
            BAD_PATH,
            instance=example_specs.JOB_PATH + "/artifacts/prune/checkpoint/model.safetensors",
        ),
    },
)
def download_artifact(
    request: Request,
    job_id: UUID,
    path: str,
    factory: FactoryDep,
    store: StoreDep,
    _: Caller,
    range_header: RangeHeader = None,
    if_range: IfRange = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Streams the file, or a range of it, so a download that broke off goes on where it was."""
    if "\0" in path:
        raise NotFound(f"job {job_id} has no such artifact")
    with unit_of_work(factory) as session:
        artifact = artifact_rows.get(session, job_id, path)
    return file_response(
        artifact,
        store,
        method=request.method,
        range_header=range_header,
        if_range=if_range,
        if_none_match=if_none_match,
    )


@router.head("/{path:path}", include_in_schema=False)
def head_artifact(
    request: Request,
    job_id: UUID,
    path: str,
    factory: FactoryDep,
    store: StoreDep,
    caller: Caller,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The headers of the download."""
    return download_artifact(request, job_id, path, factory, store, caller, if_none_match=if_none_match)


class FileInStore(Protocol):
    """What a download needs to know of a file."""

    @property
    def path(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def content_type(self) -> str: ...


def file_response(
    artifact: FileInStore,
    store: ArtifactStore,
    *,
    method: str,
    range_header: str | None = None,
    if_range: str | None = None,
    if_none_match: str | None = None,
    content_type: str | None = None,
) -> Response:
    """The response to a GET or HEAD of a stored file; a chunk of it in memory at a time."""
    etag = f'"{artifact.sha256}"'
    digest = base64.b64encode(bytes.fromhex(artifact.sha256)).decode()
    name = quote(artifact.path.rsplit("/", 1)[-1])
    headers = {
        "ETag": etag,
        "X-Checksum-Sha256": artifact.sha256,
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f"inline; filename*=UTF-8''{name}",
        "Content-Security-Policy": SANDBOX,
    }
    if matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    part = requested_range(range_header, if_range, etag=etag, size=artifact.size) if method == "GET" else None
    start, stop = (part.start, part.stop) if part else (0, artifact.size)
    headers["Content-Length"] = str(stop - start)
    if part:
        headers["Content-Range"] = part.content_range
    media_type = content_type or artifact.content_type
    if method == "HEAD":
        return Response(headers=headers, media_type=media_type)
    chunks = store.chunks(artifact.key, start=start, length=stop - start)
    return StreamingResponse(chunks, status_code=206 if part else 200, headers=headers, media_type=media_type)
