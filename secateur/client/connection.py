"""How requests go out: one protocol with two sides, one that blocks and one for an event loop.

What the client does is written once, as coroutines over a `Connection` (`async_client.py`). Over a `BlockingConnection`
such a coroutine blocks where it would wait, so it never waits: `finish` and `each` run it in place, without an event
loop, also inside one that runs already. `Client` is made of that.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import httpx

from secateur.client.errors import ClientError

DEFAULT_URL = "http://127.0.0.1:8000"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

T = TypeVar("T")


@dataclass(frozen=True)
class Address:
    """Where the service is, and who asks."""

    url: str
    key: str | None
    timeout: float  # seconds until a connection stands, and between two pieces of an answer

    @classmethod
    def of(cls, url: str | None, key: str | None, timeout: float) -> Address:
        """What is not given comes from SECATEUR_URL and SECATEUR_API_KEY.

        Raises:
            ClientError: the key is none; the words do not tell it.
        """
        url = url or os.environ.get("SECATEUR_URL") or DEFAULT_URL
        key = (key or os.environ.get("SECATEUR_API_KEY") or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ClientError("the key has a character that no key has: a line end, or one beyond ASCII")
        return cls(url.rstrip("/"), key or None, timeout)

    def options(self) -> dict[str, Any]:
        """As both clients of httpx take them."""
        return {
            "base_url": self.url,
            "headers": {"authorization": f"Bearer {self.key}"} if self.key else {},
            "timeout": self.timeout,
            "trust_env": httpx.URL(self.url).host not in _LOOPBACK,  # no proxy stands before this machine itself
        }


class Connection(Protocol):
    """Sends requests to one service; each method takes arguments as httpx does, and raises its TransportError."""

    address: Address

    def clock(self) -> float:
        """Seconds, for deadlines."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""

    async def work(self, function: Callable[[], T]) -> T:
        """What blocks for a while, such as reading a large file."""

    async def send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """One request with its whole answer."""

    def stream(self, method: str, path: str, **arguments: Any) -> AbstractAsyncContextManager[httpx.Response]:
        """One request whose answer is read by the three methods that follow."""

    async def whole(self, response: httpx.Response) -> bytes:
        """All of a streamed answer."""

    def lines(self, response: httpx.Response) -> AsyncGenerator[str]:
        """A streamed answer line by line."""

    def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        """A streamed answer as its bytes come."""

    async def close(self) -> None:
        """Close what is open."""


class BlockingConnection:
    """A connection whose coroutines never wait: they block."""

    def __init__(
        self,
        address: Address,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """What follows `address` is for tests."""
        self.address, self.clock = address, clock
        self._http = httpx.Client(transport=transport, **address.options())
        self._sleep = sleep

    async def sleep(self, seconds: float) -> None:
        self._sleep(seconds)

    async def work(self, function: Callable[[], T]) -> T:
        return function()

    async def send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return self._http.request(method, path, **arguments)

    @asynccontextmanager
    async def stream(self, method: str, path: str, **arguments: Any) -> AsyncGenerator[httpx.Response]:
        with self._http.stream(method, path, **arguments) as response:
            yield response

    async def whole(self, response: httpx.Response) -> bytes:
        return response.read()

    async def lines(self, response: httpx.Response) -> AsyncGenerator[str]:
        for line in response.iter_lines():
            yield line

    async def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        for chunk in response.iter_bytes():
            yield chunk

    async def close(self) -> None:
        self._http.close()


class AsyncConnection:
    """A connection for asyncio; work on files goes to a thread."""

    def __init__(
        self,
        address: Address,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """What follows `address` is for tests."""
        self.address, self.clock = address, clock
        self._http = httpx.AsyncClient(transport=transport, **address.options())
        self._sleep = sleep

    async def sleep(self, seconds: float) -> None:
        await self._sleep(seconds)

    async def work(self, function: Callable[[], T]) -> T:
        return await asyncio.to_thread(function)

    async def send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return await self._http.request(method, path, **arguments)

    @asynccontextmanager
    async def stream(self, method: str, path: str, **arguments: Any) -> AsyncGenerator[httpx.Response]:
        async with self._http.stream(method, path, **arguments) as response:
            yield response

    async def whole(self, response: httpx.Response) -> bytes:
        return await response.aread()

    async def lines(self, response: httpx.Response) -> AsyncGenerator[str]:
        async for line in response.aiter_lines():
            yield line

    async def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        async for chunk in response.aiter_bytes():
            yield chunk

    async def close(self) -> None:
        await self._http.aclose()


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine over a `BlockingConnection` connection to its end."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine that waits cannot be run without an event loop")


def each(items: AsyncGenerator[T]) -> Iterator[T]:
    """What an async generator over a `BlockingConnection` connection yields; who stops early closes it."""
    try:
        while True:
            try:
                item = finish(items.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        finish(items.aclose())
