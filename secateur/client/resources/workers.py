"""Who runs the stages of jobs: `client.workers`."""

from __future__ import annotations

from secateur.client.connection import finish
from secateur.client.requests import Requests
from secateur.schemas.workers import Worker, WorkerList

Found = list[Worker]  # in a class that has a method `list`, the word means that


class AsyncWorkers:
    """Workers of the service."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def list(self) -> Found:
        """Who runs the stages of jobs."""
        return (await self._requests.model(WorkerList, "GET", "/workers")).data


class Workers:
    """Workers of the service."""

    def __init__(self, calls: AsyncWorkers) -> None:
        self._calls = calls

    def list(self) -> Found:
        """Who runs the stages of jobs."""
        return finish(self._calls.list())
