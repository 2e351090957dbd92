"""The HTTP client: typed, sync, and patient. The `secateur` command and the examples are built on it.

    with Client("http://127.0.0.1:8000") as client:
        spec = {"model": {"source": "local", "path": "model.gguf"}, "pruning": {"kind": "depth", "blocks": 6}}
        job = client.jobs.create(spec)
        for event in client.jobs.events(job.id):
            print(event.type, event.data)
        print(client.jobs.report(job.id).verdict)

It needs neither a server's nor torch's packages. What its methods do is written once, in `resources/`, for asyncio;
here they are run over a connection that blocks.
"""

from __future__ import annotations

from collections.abc import Callable

from secateur.client.async_client import AsyncClient
from secateur.client.connection import Address, BlockingConnection, Connection, finish
from secateur.client.requests import RETRIES
from secateur.client.resources.answers import Answers
from secateur.client.resources.datasets import Datasets
from secateur.client.resources.jobs import Jobs
from secateur.client.resources.sweeps import Sweeps
from secateur.client.resources.workers import Workers
from secateur.schemas.catalog import Catalog
from secateur.schemas.health import Health, Readiness


class Client:
    """A connection to one service. Close it, or use it as a context manager."""

    jobs: Jobs
    sweeps: Sweeps
    datasets: Datasets
    answers: Answers
    workers: Workers

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        max_retries: int = RETRIES,
        connect: Callable[[Address], Connection] = BlockingConnection,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: the service; SECATEUR_URL unless given.
            api_key: SECATEUR_API_KEY unless given.
            timeout: seconds until a connection stands, and between two pieces of an answer.
            max_retries: of a request that may be repeated, where the service does not answer or says to come back.
            connect: for tests.
        """
        self._use(AsyncClient(url, api_key=api_key, timeout=timeout, max_retries=max_retries, connect=connect))

    def _use(self, calls: AsyncClient) -> None:
        self._calls = calls
        self.url = calls.url
        self.jobs = Jobs(calls.jobs)
        self.sweeps = Sweeps(calls.sweeps)
        self.datasets = Datasets(calls.datasets)
        self.answers = Answers(calls.answers)
        self.workers = Workers(calls.workers)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        finish(self._calls.close())

    def with_options(self, *, timeout: float | None = None, max_retries: int | None = None) -> Client:
        """A client with other settings, over the same connections: `client.with_options(max_retries=0).jobs.create(…)`.

        What is not given stays as it is. There is nothing more to close.
        """
        other = object.__new__(Client)
        other._use(self._calls.with_options(timeout=timeout, max_retries=max_retries))
        return other

    def catalog(self) -> Catalog:
        """What the service offers."""
        return finish(self._calls.catalog())

    def health(self) -> Health:
        """That the API process answers, and which one."""
        return finish(self._calls.health())

    def ready(self) -> Readiness:
        """Whether the service can work, check by check."""
        return finish(self._calls.ready())
