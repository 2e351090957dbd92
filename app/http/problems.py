"""Every error that leaves the service, as RFC 9457 `application/problem+json`.

Handlers are registered for the service's own errors, for what the framework raises (404, 405, 413, 422 …) and for a
database that does not answer. What is left is a defect: the outermost middleware turns it into a 500 that tells the
request's id and nothing else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, get_type_hints

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from app.blobs.errors import StoreFailed, is_full
from app.db.session import is_disconnect, what_broke
from secateur.contract.errors import (
    PROBLEM_BASE,
    BadRequest,
    FieldError,
    InsufficientStorage,
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    ServiceError,
    Unavailable,
    UnsupportedMediaType,
)
from secateur.contract.expectations import UNKNOWN, expected_at
from secateur.contract.json_text import EXPECTED, LongNumber, fault_of, load_json
from secateur.contract.shown import shown
from secateur.contract.validation_errors import field_errors

logger = logging.getLogger("app.http")

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_SECONDS = 5  # when Postgres or this service is away: about what a restart takes

_BY_STATUS: dict[int, type[ServiceError]] = {
    error.status: error for error in (BadRequest, NotFound, PayloadTooLarge, UnsupportedMediaType, Unavailable)
}


def request_id_of(scope: Scope) -> str | None:
    """The id that the middleware gave this request."""
    state: dict[str, Any] = scope.get("state") or {}
    return state.get("request_id")


def problem_response(scope: Scope, problem: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """A response with `problem`, to which the request's path and id are added."""
    body = {**problem, "instance": scope.get("path"), "request_id": request_id_of(scope)}
    content = json.dumps(body, ensure_ascii=False, allow_nan=False, default=str).encode("utf-8", "replace")
    return Response(content, status_code=int(problem["status"]), media_type=PROBLEM_JSON, headers=headers)


def error_response(scope: Scope, error: ServiceError) -> Response:
    """The response to one of the service's own errors."""
    return problem_response(scope, error.to_problem(), error.headers)


def register(app: FastAPI) -> None:
    """Put the handlers on `app`."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(DBAPIError, _database_error)
    app.add_exception_handler(PoolTimeout, _database_error)
    app.add_exception_handler(OSError, _file_error)


def _service_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, ServiceError)
    if exc.status >= 500:
        logger.warning("%s: %s", type(exc).__name__, exc.detail)
    return error_response(request.scope, exc)


def _http_exception(request: Request, exc: Exception) -> Response:
    """What Starlette and FastAPI raise: no such route, method not allowed, body too large or unreadable."""
    assert isinstance(exc, HTTPException)
    if exc.status_code == 405:
        allowed = ", ".join(_methods_at(request)) or (exc.headers or {}).get("Allow", "")
        problem = {
            "type": PROBLEM_BASE + "method-not-allowed",
            "title": "Method not allowed",
            "status": 405,
            "detail": f"{request.method} is not offered here" + (f"; use {allowed}" if allowed else ""),
        }
        return problem_response(request.scope, problem, {"Allow": allowed})
    if exc.status_code == 404:
        return error_response(request.scope, NotFound(f"there is nothing at {request.scope['path']}"))
    if exc.status_code == 400 and isinstance(exc.__cause__, ValueError | RecursionError):
        return error_response(request.scope, _unreadable(request))
    known = _BY_STATUS.get(exc.status_code)
    if known:
        return problem_response(request.scope, known(str(exc.detail)).to_problem(), exc.headers)
    problem = {"type": "about:blank", "title": str(exc.detail), "status": exc.status_code, "detail": str(exc.detail)}
    return problem_response(request.scope, problem, exc.headers)


def _unreadable(request: Request) -> ServiceError:
    """Why a body could not be read as JSON: FastAPI tells of that little, or nothing."""
    body: bytes = getattr(request, "_body", b"")  # Starlette keeps what it has read
    try:
        load_json(body)
    except LongNumber as error:
        return InvalidInput.field(error.pointer, f"the body {error.detail}", value=error.value, expected=EXPECTED)
    except RecursionError:
        return BadRequest("the body is nested too deeply to be read as JSON")
    except ValueError as error:
        return BadRequest(f"the body is not JSON: {fault_of(error)}")
    return BadRequest("the body cannot be read as JSON")


def _methods_at(request: Request) -> list[str]:
    """All methods that some route offers at this path; the framework names those of the first one only."""
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    return [
        method
        for method in methods
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]


def _validation_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    errors = exc.errors()
    if any(error["type"] == "json_invalid" for error in errors):
        return error_response(request.scope, _unreadable(request))
    if isinstance(exc.body, bytes) and exc.body:
        given = request.headers.get("content-type") or "none"
        detail = f"the body's Content-Type is {given}; it must be application/json"
        return error_response(request.scope, UnsupportedMediaType(detail))
    fields = [
        *field_errors(_body_model(request), [_in_body(error) for error in errors if error["loc"][0] == "body"]),
        *[_parameter(request, error) for error in errors if error["loc"][0] != "body"],
    ]
    return error_response(request.scope, InvalidInput.fields(fields))


def _body_model(request: Request) -> type[BaseModel]:
    """The model that the operation reads its body with."""
    hints = get_type_hints(request.scope["endpoint"])
    hints.pop("return", None)
    models = (hint for hint in hints.values() if isinstance(hint, type) and issubclass(hint, BaseModel))
    return next(models, BaseModel)


def _in_body(error: Mapping[str, Any]) -> dict[str, Any]:
    return {**error, "loc": error["loc"][1:]}


def _parameter(request: Request, error: Mapping[str, Any]) -> FieldError:
    place, name = str(error["loc"][0]), str(error["loc"][1])
    expected = _expected_of(request, place, name)
    missing = error["type"] == "missing"
    return FieldError(
        pointer="",
        detail=f"the {place} parameter {name} " + ("is required" if missing else f"must be {expected}"),
        value=None if missing else shown(error["input"]),
        expected=expected,
        parameter=f"{place} {name}",
    )


def _expected_of(request: Request, place: str, name: str) -> str:
    """What a parameter of the operation is, by its annotation."""
    waiting = [request.scope["route"].dependant]
    while waiting:
        dependant = waiting.pop()
        for parameter in getattr(dependant, f"{place}_params"):
            if parameter.alias == name:
                info = parameter.field_info
                return expected_at(info.annotation, info.metadata)
        waiting += dependant.dependencies
    return UNKNOWN


def _file_error(request: Request, exc: Exception) -> Response:
    """507 where a disk or the store is full, 503 where the store fails; anything else of the kind is a defect."""
    assert isinstance(exc, OSError)
    if is_full(exc):
        error: ServiceError = InsufficientStorage("there is no room left to store this; nothing of it was kept")
    elif isinstance(exc, StoreFailed):
        error = Unavailable(
            "the artifact store does not do what it is asked", headers={"Retry-After": str(RETRY_AFTER_SECONDS)}
        )
    else:
        raise exc
    logger.warning("store: %s", exc)
    return error_response(request.scope, error)


def _database_error(request: Request, exc: Exception) -> Response:
    """503 where Postgres is away or busy; anything else from it is a defect, for the outermost middleware."""
    if not is_disconnect(exc):
        raise exc
    assert isinstance(exc, SQLAlchemyError)
    logger.warning("%s", what_broke(exc))
    error = Unavailable("the database does not answer", headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    return error_response(request.scope, error)
