"""One request and its answer: repeated while that may help and does no harm, and read as what it must be."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import uuid4

import httpx
from pydantic import BaseModel, ValidationError

from secateur.client.connection import Connection
from secateur.client.errors import (
    ClientError,
    RateLimited,
    RequestRefused,
    ServiceFailed,
    UnexpectedAnswer,
    Unreachable,
    refused,
)
from secateur.schemas.page import Page

RETRIES = 3  # of one request that may be repeated, unless the caller says otherwise

Model = TypeVar("Model", bound=BaseModel)
Row = TypeVar("Row")


def delay_before(attempt: int, error: ClientError) -> float | None:
    """Seconds until attempt number `attempt`, from 2 on, after this error; None where another one would not help."""
    if isinstance(error, ServiceFailed) and error.problem.status == 500:
        return None  # a defect, which the same request meets again
    if not isinstance(error, Unreachable | RateLimited | ServiceFailed):
        return None
    return max(0.5 * 2.0 ** (attempt - 2), asked_delay(error))


def asked_delay(error: ClientError) -> float:
    """The seconds that the service asks to wait."""
    return (error.retry_after if isinstance(error, RequestRefused) else None) or 0.0


def jittered(seconds: float) -> float:
    """Within a quarter of `seconds`, so that many clients do not come at once."""
    return seconds * random.uniform(0.75, 1.25)


def submission_headers(idempotency_key: str | None, cancel_after: str | None) -> dict[str, str]:
    """A submission always has a key, so that it can be repeated."""
    headers = {"idempotency-key": idempotency_key or str(uuid4())}
    return {**headers, "cancel-after": cancel_after} if cancel_after else headers


@dataclass(frozen=True)
class Requests:
    """Requests over one connection. Arguments are those of httpx; every method raises ClientError."""

    connection: Connection
    retries: int = RETRIES  # of a request that may be repeated
    timeout: float | None = None  # seconds, in place of the connection's own

    @property
    def patience(self) -> float:
        """Seconds until a connection stands, and between two pieces of an answer."""
        return self.connection.address.timeout if self.timeout is None else self.timeout

    def with_options(self, timeout: float | None, retries: int | None) -> Requests:
        """The same over the same connection; None leaves as it is."""
        return replace(
            self,
            timeout=self.timeout if timeout is None else timeout,
            retries=self.retries if retries is None else retries,
        )

    async def model(
        self, model: type[Model], method: str, path: str, *, repeat: bool = True, **arguments: Any
    ) -> Model:
        """The answer as this model."""
        return self.parsed(model, (await self.send(method, path, repeat=repeat, **arguments)).content)

    async def pages(self, page: type[Page[Row]], path: str, params: Mapping[str, Any]) -> AsyncGenerator[Row]:
        """The rows of all pages of a list, which are fetched as they are needed."""
        asked = dict(params)
        while True:
            found = await self.model(page, "GET", path, params=asked)
            for row in found.data:
                yield row
            if not found.has_more or found.next_cursor is None:
                return
            asked["cursor"] = found.next_cursor

    async def send(self, method: str, path: str, *, repeat: bool = True, **arguments: Any) -> httpx.Response:
        """An answer below 400; a request that may be repeated is, as often as the caller wants."""
        attempt = 1
        while True:
            try:
                response = await self.once(method, path, **arguments)
                if response.status_code < 400:
                    return response
                raise refused(response.status_code, response.content, response.headers)
            except ClientError as error:
                attempt += 1
                delay = delay_before(attempt, error) if repeat and attempt <= self.retries + 1 else None
                if delay is None:
                    raise
            await self.connection.sleep(jittered(delay))

    async def once(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Whatever the answer is. Raises Unreachable."""
        if self.timeout is not None:
            arguments.setdefault("timeout", self.timeout)
        try:
            return await self.connection.send(method, path, **arguments)
        except httpx.TransportError as error:
            raise Unreachable(f"{self.connection.address.url} does not answer: {error}") from error

    def parsed(self, model: type[Model], content: bytes | str) -> Model:
        """Raises UnexpectedAnswer."""
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            url = self.connection.address.url
            detail = f"{url} does not answer as a service of this version does: no {model.__name__}"
            raise UnexpectedAnswer(detail) from error
