"""Answers, and what OpenAPI is told of them: each status with its body or problem, as an example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Response

from app.http.problems import PROBLEM_JSON
from secateur.contract.errors import (
    BadRequest,
    FieldError,
    Forbidden,
    InvalidInput,
    PayloadTooLarge,
    ServiceError,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from secateur.contract.expectations import A_UUID

Responses = dict[int | str, dict[str, Any]]


@dataclass(frozen=True)
class Tag:
    """What operations stand under in the documentation."""

    name: str
    description: str
    place: int  # among the others


_REQUEST_ID = "0f3c1d8c5f7a4b0e9a6f2d1c3b5a7e90"

UNAUTHORIZED = Unauthorized("this service needs an API key: send the header Authorization: Bearer KEY")
FOREIGN_PAGE = Forbidden("requests that change something are not accepted from pages of other sites")
DATABASE_AWAY = Unavailable("the database does not answer")
BAD_PATH = InvalidInput(
    f"the path parameter job_id must be {A_UUID}",
    errors=[FieldError("", f"the path parameter job_id must be {A_UUID}", "7", A_UUID, "path job_id")],
)
_A_LIMIT = "a whole number, at least 1 and at most 100"
BAD_QUERY = InvalidInput(
    f"the query parameter limit must be {_A_LIMIT}",
    errors=[FieldError("", f"the query parameter limit must be {_A_LIMIT}", "1000", _A_LIMIT, "query limit")],
)
BODY_ERRORS: tuple[ServiceError, ...] = (
    BadRequest("the body is not JSON: Expecting value, at character 0"),
    PayloadTooLarge("the body has 2097152 bytes; at most 1048576 are read (SECATEUR_MAX_BODY_BYTES)"),
    UnsupportedMediaType("the body's Content-Type is text/plain; it must be application/json"),
)


def problems(*errors: ServiceError, instance: str = "/jobs") -> Responses:
    """`responses=` for an operation that may answer with these errors; several of one status become named examples."""
    declared: Responses = {}
    for error in (*errors, DATABASE_AWAY):
        example = {**error.to_problem(), "instance": instance, "request_id": _REQUEST_ID}
        entry = declared.setdefault(
            error.status,
            {
                "description": error.title,
                "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        examples = entry["content"][PROBLEM_JSON]["examples"]
        name = error.slug if error.slug not in examples else f"{error.slug}-{len(examples) + 1}"
        examples[name] = {"summary": error.detail, "value": example}
    return declared


def answer(text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The response with this JSON, of an operation that is asked for often.

    One that returns its body has the framework check it, and write it, in yet another thread.
    """
    return Response(text, status_code=status, headers=headers, media_type="application/json")


def example(value: Any, *, description: str = "Successful response", media_type: str = "application/json") -> Any:
    """The entry of a successful response with its example."""
    return {"description": description, "content": {media_type: {"example": value}}}
