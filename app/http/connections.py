"""The API's connections: clients that are slow, or only hold a connection open, keep nobody else waiting.

uvicorn bounds how long an idle connection is kept after a response, and nothing else: a request that is never finished
keeps its connection, and with it a descriptor, for ever. Here the client's side of everything has a bound:

- the head of a request (its line and headers) has to be there within `head_seconds` of its connection or first byte;
- a body has to come at `least_rate` bytes a second, looked at every `body_seconds`, unless it is the application that
  does not read;
- a response has to be taken: what stands unsent for `send_seconds` ends the connection;
- there are at most `connections` of them. Above that the one that has waited for its client the longest makes room, so
  a crowd of half-sent requests pushes itself out; where all of them are at work, the newcomer is told to come back.

What ends here is answered in the service's own form, problem+json, where there is still somebody to answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from secateur.contract.errors import BadRequest, RequestTimeout, ServiceError, Unavailable

logger = logging.getLogger("app.http")


@dataclass(frozen=True)
class Limits:
    """What a client may take its time with."""

    connections: int
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    least_rate: float = 512.0  # bytes of a body a second
    send_seconds: float = 60.0


class Connection(H11Protocol):
    """One connection to the API."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Limits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._waits_since: float | None = None  # for its client; None while the application is at work
        self._timer: asyncio.TimerHandle | None = None  # of the head or of the body
        self._timed = ""  # which of them
        self._came = 0  # bytes of the body since the timer was set
        self._send_timer: asyncio.TimerHandle | None = None

    # --- what the event loop calls ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        if len(self.connections) > self._limits.connections and not self._make_room():
            self._answer(Unavailable("all connections are in use; come back soon", headers={"Retry-After": "1"}))
            return
        self._set_timer("head", self._limits.head_seconds)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():  # it was told to go, and talks on
            return
        self._came += len(data)
        super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_send_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._waits_since = self.loop.time()
        self._send_timer = self.loop.call_later(self._limits.send_seconds, self._not_taken)

    def resume_writing(self) -> None:
        self._stop_send_timer()
        self._waits_since = None
        super().resume_writing()

    # --- time ------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Set or stop the timer by what is waited for now."""
        if self.transport.is_closing():
            self._stop_timer()
            return
        state = self.conn.their_state
        if state is h11.IDLE:
            if self._timed == "head":
                return  # it runs from the first byte on, however many come
            self._stop_timer()
            self._waits_since = self.loop.time()
            if self.conn.trailing_data[0] or self.cycle is None:
                self._set_timer("head", self._limits.head_seconds)
        elif state is h11.SEND_BODY:
            self._waits_since = self.loop.time()
            if self._timed != "body":
                self._set_timer("body", self._limits.body_seconds)
        else:
            self._stop_timer()
            if not self.flow.write_paused:
                self._waits_since = None

    def _set_timer(self, what: str, seconds: float) -> None:
        self._stop_timer()
        self._timed, self._came = what, 0
        self._timer = self.loop.call_later(seconds, self._too_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timed = None, ""

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _too_late(self) -> None:
        if self.transport.is_closing():
            return
        if self._timed == "head":
            self._answer(
                RequestTimeout(f"the head of the request did not come within {self._limits.head_seconds:.0f} s")
            )
        elif self.flow.read_paused or self._came >= self._limits.least_rate * self._limits.body_seconds:
            self._set_timer("body", self._limits.body_seconds)
        else:
            self._answer(
                RequestTimeout(f"the body came slower than {self._limits.least_rate:.0f} bytes a second; send it again")
            )

    def _not_taken(self) -> None:
        if self.flow.write_paused:
            logger.info("a response was not taken for %.0f s; the connection is closed", self._limits.send_seconds)
            self.transport.abort()

    # --- room ------------------------------------------------------------------------------------------------

    def _make_room(self) -> bool:
        """Close the connection that has waited for its client the longest; False where none waits but this one."""
        waiting = [
            other
            for other in self.connections
            if isinstance(other, Connection) and other is not self and other._waits_since is not None
        ]
        if not waiting:
            return False
        longest = min(waiting, key=lambda other: other._waits_since or 0.0)
        self.connections.discard(longest)
        longest.transport.abort()
        return True

    # --- answers ---------------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP; called where h11 has raised its error."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self._answer(BadRequest(f"what came is no HTTP request: {error or msg}"), status=status)

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: who asks for another protocol is answered in this one."""

    def _answer(self, error: ServiceError, *, status: int | None = None) -> None:
        """Answer where nothing has been answered yet, and close."""
        self._stop_timer()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
            problem = {**error.to_problem(), "status": status or error.status, "instance": None, "request_id": None}
            content = json.dumps(problem, ensure_ascii=False).encode("utf-8", "replace")
            headers = [
                ("Content-Type", "application/problem+json"),
                ("Content-Length", str(len(content))),
                ("Connection", "close"),
                *error.headers.items(),
            ]
            response = h11.Response(status_code=problem["status"], headers=headers)
            for event in (response, h11.Data(data=content), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # the application hears that its client is gone
            self.cycle.message_event.set()
        self.transport.close()
