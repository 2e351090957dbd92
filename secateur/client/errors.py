"""What both HTTP clients raise.

ClientError
├── Unreachable         no answer: refused, timed out, cut off, name not found
├── WaitTimedOut        the job or sweep is not over yet; it goes on
├── ChecksumMismatch    a downloaded file is not what the service said
├── NotPublishable      a result that cannot be published: not over, no such checkpoint; or no such target
│   └── GatesFailed     the job's gates failed, and nobody said to publish it all the same
├── TargetFailed        what a result was to be published to refuses it, or does not answer
└── RequestRefused      the service answered with an error; `problem` is its RFC 9457 object
    ├── AccessDenied    401, 403  no key, a wrong one, or one without the scope
    ├── NotFound        404       no such job, report or artifact
    ├── Conflict        409       the state of the job does not allow it
    ├── InvalidRequest  400, 422  and every other 4xx: the request has to change
    ├── RateLimited     429       worth another try later
    └── ServiceFailed   5xx       worth another try later
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from uuid import UUID

from secateur.contract.shown import SHOWN_CHARACTERS, shortened
from secateur.schemas.problem import Problem


class ClientError(Exception):
    """The root of everything that the clients raise."""


class Unreachable(ClientError):
    """The service did not answer."""


class WaitTimedOut(ClientError):
    """The job, or the sweep, was not over in time; it goes on."""

    def __init__(self, job_id: UUID, seconds: float, *, what: str = "job") -> None:
        super().__init__(f"{what} {job_id} was not over after {seconds:.0f} s; it goes on")
        self.job_id = job_id


class UnexpectedAnswer(ClientError):
    """What answered does not speak as this service does."""


class ChecksumMismatch(ClientError):
    """A download that differs from its published checksum; nothing was kept of it."""


class NotPublishable(ClientError):
    """The job, or what was asked for, does not allow a result to be published."""


class GatesFailed(NotPublishable):
    """The job's gates failed."""


class TargetFailed(ClientError):
    """The hub, tracker or registry refuses what was to be published, or does not answer."""


class RequestRefused(ClientError):
    """The service answered with an error."""

    def __init__(self, problem: Problem, *, retry_after: float | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.retry_after = retry_after  # seconds


class AccessDenied(RequestRefused):
    """No key, a wrong key, or a key that lacks the scope."""


class NotFound(RequestRefused):
    """No such job, report or artifact."""


class Conflict(RequestRefused):
    """The state of the resource does not allow it."""


class InvalidRequest(RequestRefused):
    """The request itself has to change."""


class RateLimited(RequestRefused):
    """Too many requests."""


class ServiceFailed(RequestRefused):
    """The service cannot answer now."""


_BY_STATUS: Mapping[int, type[RequestRefused]] = {
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: Conflict,
    429: RateLimited,
}


def refused(status: int, body: bytes, headers: Mapping[str, str]) -> RequestRefused:
    """The error of a response with status 400 or above; a body that is no problem object (a proxy's) is quoted."""
    try:
        problem = Problem.model_validate_json(body)
    except ValueError:
        detail = shortened(body.decode(errors="replace").strip(), SHOWN_CHARACTERS) or "no explanation was given"
        problem = Problem(type="about:blank", title="Unexpected answer", status=status, detail=f"{status}: {detail}")
    kind = _BY_STATUS.get(status, ServiceFailed if status >= 500 else InvalidRequest)
    return kind(problem, retry_after=retry_after_seconds(headers.get("retry-after")))


def retry_after_seconds(value: str | None) -> float | None:
    """The header `Retry-After` in seconds from now: a number, or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
