"""The HTTP client for asyncio, and what both clients do: typed and patient.

    async with AsyncClient("http://127.0.0.1:8000") as client:
        job = await client.jobs.create(spec)
        async for event in client.jobs.events(job.id):
            print(event.type, event.data)
        print((await client.jobs.report(job.id)).verdict)

Requests that may be repeated are: reads, cancels, and submissions, which always carry an idempotency key. Events come
by a stream that reconnects where it was; where a proxy does not let streams through, by polling every 5 to 60 s with
jitter.

`Client` runs these same methods over a connection that blocks (`connection.py`), so nothing here waits for anything but
its connection.
"""

from __future__ import annotations

from collections.abc import Callable

from secateur.client.connection import Address, AsyncConnection, Connection
from secateur.client.errors import refused
from secateur.client.requests import RETRIES, Requests
from secateur.client.resources.answers import AsyncAnswers
from secateur.client.resources.datasets import AsyncDatasets
from secateur.client.resources.jobs import AsyncJobs
from secateur.client.resources.sweeps import AsyncSweeps
from secateur.client.resources.workers import AsyncWorkers
from secateur.schemas.catalog import Catalog
from secateur.schemas.health import Health, Readiness


class AsyncClient:
    """A connection to one service. Close it, or use it as a context manager."""

    jobs: AsyncJobs
    sweeps: AsyncSweeps
    datasets: AsyncDatasets
    answers: AsyncAnswers
    workers: AsyncWorkers

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        max_retries: int = RETRIES,
        connect: Callable[[Address], Connection] = AsyncConnection,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: the service; SECATEUR_URL unless given.
            api_key: SECATEUR_API_KEY unless given.
            timeout: seconds until a connection stands, and between two pieces of an answer.
            max_retries: of a request that may be repeated, where the service does not answer or says to come back.
            connect: for `Client` and for tests.
        """
        self._use(Requests(connect(Address.of(url, api_key, timeout)), retries=max_retries))

    def _use(self, requests: Requests) -> None:
        self._requests = requests
        self.url = requests.connection.address.url
        self.jobs = AsyncJobs(requests)
        self.sweeps = AsyncSweeps(requests)
        self.datasets = AsyncDatasets(requests)
        self.answers = AsyncAnswers(requests)
        self.workers = AsyncWorkers(requests)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._requests.connection.close()

    def with_options(self, *, timeout: float | None = None, max_retries: int | None = None) -> AsyncClient:
        """A client with other settings, over the same connections: `client.with_options(max_retries=0).jobs.create(…)`.

        What is not given stays as it is. There is nothing more to close.
        """
        other = object.__new__(AsyncClient)
        other._use(self._requests.with_options(timeout, max_retries))
        return other

    async def catalog(self) -> Catalog:
        """What the service offers."""
        return await self._requests.model(Catalog, "GET", "/catalog")

    async def health(self) -> Health:
        """That the API process answers, and which one."""
        return await self._requests.model(Health, "GET", "/healthz", repeat=False)

    async def ready(self) -> Readiness:
        """Whether the service can work, check by check."""
        response = await self._requests.once("GET", "/readyz")
        if response.status_code not in (200, 503):
            raise refused(response.status_code, response.content, response.headers)
        return self._requests.parsed(Readiness, response.content)
