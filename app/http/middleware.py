"""The edge of the application: request ids, the body's limit, defects, cross-site requests, timing.

One plain ASGI middleware, outermost, so that nothing leaves without an id, and neither a defect nor a request that a
stop cuts off without a problem+json.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from uuid import uuid4

from opentelemetry import trace
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from app import tracing
from app.http.hosts import Hosts
from app.http.problems import RETRY_AFTER_SECONDS, error_response
from secateur.contract.errors import BadRequest, PayloadTooLarge, ServiceError, Unavailable

logger = logging.getLogger("app.http")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_LENGTH = re.compile(r"[0-9]{1,18}")

UPLOADS = "/datasets"  # posted to, files are read that no body in memory should be as long as
FORM_BYTES = 65_536  # what a form may have around its file

Observer = Callable[[str, str, int, float], None]  # method, route's path, status, seconds to the response's start


class EdgeMiddleware:
    """Wraps the whole application."""

    def __init__(
        self, app: ASGIApp, *, hosts: Hosts, max_body_bytes: int, max_dataset_bytes: int, observe: Observer
    ) -> None:
        self.app = app
        self.hosts = hosts
        self.max_body_bytes = max_body_bytes
        self.max_upload_bytes = max_dataset_bytes + FORM_BYTES
        self.observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        trace.get_current_span().set_attribute("secateur.request_id", request_id)
        with bound_contextvars(request_id=request_id, **tracing.bound()):
            await self._answer(scope, receive, send, headers, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, asked: Headers, request_id: str) -> None:
        started, began = False, time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers.setdefault("x-content-type-options", "nosniff")
                self._log(scope, message["status"], time.perf_counter() - began)
            await send(message)

        try:
            refusal = self._refuse(scope, asked)
            if refusal is not None:
                raise refusal
            await self.app(scope, _Limited(receive, self._most_bytes(scope)[0]), send_with_id)
        except ServiceError as error:
            if started:
                raise
            await error_response(scope, error)(scope, receive, send_with_id)
        except asyncio.CancelledError:  # the server is told to stop, and its grace is over
            if started:
                raise
            stopping = Unavailable(
                "the service is being stopped before this was answered; whether it was done is not known",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
            await error_response(scope, stopping)(scope, receive, send_with_id)
        except Exception:
            logger.exception("unhandled error")
            if started:
                raise  # the server cuts the connection: the client must not take the part for the whole
            defect = ServiceError("something broke in the service; its log has the details under this request_id")
            await error_response(scope, defect)(scope, receive, send_with_id)

    def _refuse(self, scope: Scope, headers: Headers) -> ServiceError | None:
        length = headers.get("content-length")
        if length is not None and not _LENGTH.fullmatch(length):
            return BadRequest("Content-Length is not a number")
        most, setting = self._most_bytes(scope)
        if length is not None and int(length) > most:
            return PayloadTooLarge(f"the body has {length} bytes; at most {most} are read ({setting})")
        return self.hosts.refuse(scope["scheme"], scope["method"], scope["path"], headers)

    def _most_bytes(self, scope: Scope) -> tuple[int, str]:
        """How long this request's body may be, and the setting that says so."""
        if scope["method"] == "POST" and scope["path"] == UPLOADS:
            return self.max_upload_bytes, "SECATEUR_MAX_DATASET_BYTES"
        return self.max_body_bytes, "SECATEUR_MAX_BODY_BYTES"

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "(none)"
        self.observe(scope["method"], route, status, seconds)
        # as it was sent: a decoded path could hold a line of its own
        path = scope.get("raw_path", b"").decode("ascii", "replace")
        method, milliseconds = scope["method"], round(seconds * 1e3, 1)
        figures = {"method": method, "path": path, "status": status, "milliseconds": milliseconds}
        logger.info("%s %s %d %s ms", method, path, status, milliseconds, extra=figures)


class _Limited:
    """`receive` that refuses a body over its limit, also one sent in chunks with no length."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self.receive = receive
        self.limit = limit
        self.seen = 0

    async def __call__(self) -> Message:
        message = await self.receive()
        if message["type"] == "http.request":
            self.seen += len(message.get("body", b""))
            if self.seen > self.limit:
                # The framework's own class: it reads any other, raised while it reads a body, as a broken body.
                raise HTTPException(413, f"the body has more than {self.limit} bytes")
        return message
