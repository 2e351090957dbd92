"""The one shape of every error: RFC 9457 `application/problem+json`."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from secateur.schemas.base import Body


class FieldProblem(Body):
    """One field that cannot be used."""

    model_config = ConfigDict(frozen=True)

    pointer: str = Field(description="JSON pointer (RFC 6901) into the request body; empty for a parameter.")
    detail: str = Field(description="What is wrong, in one sentence.")
    value: Any = Field(default=None, description="What was given.")
    expected: str | None = Field(default=None, description="What would be right.")
    parameter: str | None = Field(
        default=None, description='What stands outside the body, such as "query limit" or "header Cancel-After".'
    )
    line: int | None = Field(default=None, description="Of an uploaded file, from 1: its line, or its row.")


class Problem(Body):
    """Why a request was refused, or a job failed."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(description="A URI that names the kind of problem; it never changes.")
    title: str
    status: int
    detail: str
    instance: str | None = Field(default=None, description="The path of the request.")
    request_id: str | None = Field(default=None, description="As in the response's header x-request-id.")
    stage: str | None = Field(default=None, description="The stage that failed, for the problem of a job.")
    errors: list[FieldProblem] | None = Field(default=None, description="The fields that are to blame.")
