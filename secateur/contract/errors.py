"""The tree of errors that reach a user, by HTTP, by CLI or as the failure of a job.

    ServiceError                    500  the root; anything else that escapes is a defect
    ├── BadRequest                  400  a request that cannot be read: broken JSON, a body cut short
    ├── InvalidInput                422  a field of a request or of a job's spec cannot be used
    │   ├── BadCheckpoint           422  a model's files are unsafe, broken or of an unknown kind
    │   └── UnsupportedModel        422  the files are sound, but this method does not hold for the model
    ├── Unauthorized                401  no key, or a wrong one
    ├── Forbidden                   403  the key lacks the scope
    ├── NotFound                    404  no such job, artifact, data set …
    ├── NotAcceptable               406  none of the asked media types is offered
    ├── RequestTimeout              408  a request that did not come in time
    ├── Conflict                    409  the state of the resource does not allow it
    ├── PayloadTooLarge             413  an upload or a body over its limit
    ├── UnsupportedMediaType        415  a body that is not of the type that the operation reads
    ├── RangeNotSatisfiable         416  a byte range outside the file
    ├── MisdirectedRequest          421  a host that this service does not answer to
    ├── StageFailed                 500  a stage of a job broke: crash, out of memory, time limit, NaN
    │   └── DeviceFailed            500  the worker's GPU cannot be used, or failed; another worker may do the stage
    ├── Unavailable                 503  Postgres, Redis, the store or the hub does not answer
    └── InsufficientStorage         507  the disk or the store is full

Each is rendered as RFC 9457 `application/problem+json`. The stage process renders the same object into its
`error` event, so a failed job shows the same kind of problem as a refused request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from secateur.contract.shown import printable, shown

PROBLEM_BASE = "https://secateur.dev/problems/"


@dataclass(frozen=True)
class FieldError:
    """One bad field: where it is, what stood there, and what is expected instead."""

    pointer: str  # JSON pointer (RFC 6901) into the body, such as "/pruning/blocks"; "" for a parameter
    detail: str  # what is wrong, in one sentence
    value: Any = None  # what was given
    expected: str | None = None  # what would be right
    parameter: str | None = None  # what stands outside the body: "query limit", "header Cancel-After"
    line: int | None = None  # of an uploaded file, from 1: the line of a text, the row of a table

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", printable(self.detail))

    def to_dict(self) -> dict[str, Any]:
        entry = {"pointer": self.pointer, "detail": self.detail, "value": shown(self.value), "expected": self.expected}
        more = {"parameter": self.parameter, "line": self.line}
        return entry | {name: value for name, value in more.items() if value is not None}


class ServiceError(Exception):
    """An error with an HTTP status, a stable problem type and a sentence for the user."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self, detail: str, *, errors: list[FieldError] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.detail = printable(detail)
        super().__init__(self.detail)
        self.errors = errors or []
        self.headers = dict(headers or {})  # of the HTTP response, such as Retry-After

    def to_problem(self) -> dict[str, Any]:
        """The RFC 9457 object: type, title, status, detail, and `errors` where fields are to blame."""
        problem: dict[str, Any] = {
            "type": PROBLEM_BASE + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            problem["errors"] = [error.to_dict() for error in self.errors]
        return problem


class BadRequest(ServiceError):
    status, slug, title = 400, "bad-request", "Request cannot be read"


class InvalidInput(ServiceError):
    status, slug, title = 422, "invalid-input", "Invalid input"

    @classmethod
    def field(cls, pointer: str, detail: str, *, value: Any = None, expected: str | None = None) -> Self:
        """The error of a single field; `detail` is also the problem's detail."""
        return cls(detail, errors=[FieldError(pointer, detail, value, expected)])

    @classmethod
    def fields(cls, errors: list[FieldError], *, count: int | None = None) -> Self:
        """The error of some fields: the problem's detail is that of a single one, and else how many there are.

        Args:
            count: of all that are wrong, where not all of them are told.
        """
        count = len(errors) if count is None else count
        return cls(errors[0].detail if count == 1 else f"{count} fields cannot be used", errors=errors)


class BadCheckpoint(InvalidInput):
    slug, title = "bad-checkpoint", "Checkpoint cannot be used"


class UnsupportedModel(InvalidInput):
    slug, title = "unsupported-model", "Model is not supported"


class Unauthorized(ServiceError):
    status, slug, title = 401, "unauthorized", "Not authenticated"


class Forbidden(ServiceError):
    status, slug, title = 403, "forbidden", "Not allowed"


class NotFound(ServiceError):
    status, slug, title = 404, "not-found", "Not found"


class NotAcceptable(ServiceError):
    status, slug, title = 406, "not-acceptable", "Media type not offered"


class RequestTimeout(ServiceError):
    status, slug, title = 408, "request-timeout", "Request came too slowly"


class Conflict(ServiceError):
    status, slug, title = 409, "conflict", "Conflict"


class PayloadTooLarge(ServiceError):
    status, slug, title = 413, "payload-too-large", "Payload too large"


class UnsupportedMediaType(ServiceError):
    status, slug, title = 415, "unsupported-media-type", "Media type not supported"


class RangeNotSatisfiable(ServiceError):
    status, slug, title = 416, "range-not-satisfiable", "Range not satisfiable"


class MisdirectedRequest(ServiceError):
    status, slug, title = 421, "misdirected-request", "Not this service's name"


class StageFailed(ServiceError):
    slug, title = "stage-failed", "Stage failed"


class DeviceFailed(StageFailed):
    slug, title = "device-failed", "Device failed"


class Unavailable(ServiceError):
    status, slug, title = 503, "unavailable", "Service unavailable"


class InsufficientStorage(ServiceError):
    status, slug, title = 507, "insufficient-storage", "No space left"
