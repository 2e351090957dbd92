"""Two clients with one logic."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import Any, get_type_hints

import httpx
import pytest

from secateur.client.async_client import AsyncClient
from secateur.client.connection import AsyncConnection
from secateur.client.http_client import Client
from secateur.client.resources.answers import Answers, AsyncAnswers
from secateur.client.resources.datasets import AsyncDatasets, Datasets
from secateur.client.resources.jobs import AsyncJobs, Jobs
from secateur.client.resources.sweeps import AsyncSweeps, Sweeps
from secateur.client.resources.workers import AsyncWorkers, Workers
from tests.fixtures.scripted_service import (
    JOB,
    Fake,
    event,
    job,
    stream,
)

TWINS: list[tuple[type, type]] = [
    (Client, AsyncClient),
    (Jobs, AsyncJobs),
    (Sweeps, AsyncSweeps),
    (Datasets, AsyncDatasets),
    (Answers, AsyncAnswers),
    (Workers, AsyncWorkers),
]


def test_both_clients_have_the_same_resources() -> None:
    one, other = (get_type_hints(client) for client in (Client, AsyncClient))
    assert list(one) == list(other)
    assert TWINS[1:] == [(one[name], other[name]) for name in one]


@pytest.mark.parametrize(("one", "other"), TWINS, ids=lambda kind: kind.__name__)
def test_both_clients_have_the_same_methods_with_the_same_words(one: type, other: type) -> None:
    def methods(kind: type) -> dict[str, Any]:
        return {name: found for name, found in vars(kind).items() if inspect.isfunction(found) and name[0] != "_"}

    blocking, waiting = methods(one), methods(other)
    assert set(blocking) == set(waiting)
    blocking.pop("with_options", None)  # which gives a client of its own kind
    for name, method in blocking.items():
        twin = waiting[name]
        assert inspect.signature(method).parameters == inspect.signature(twin).parameters, name
        assert inspect.getdoc(method) == inspect.getdoc(twin), name
        single = inspect.iscoroutinefunction(twin)
        returned = inspect.signature(twin).return_annotation
        expected = returned if single else returned.replace("AsyncGenerator[", "Iterator[")
        assert inspect.signature(method).return_annotation == expected, name


def test_the_sync_client_works_inside_an_event_loop() -> None:
    """As in a notebook: it needs no loop of its own, and does not trip over another's."""
    fake = Fake(
        get_events=[stream(event(1, "state", state="succeeded"))],
        get_job=[httpx.Response(200, json=job("succeeded", 1))],
    )

    async def cell() -> str:
        return fake.client().jobs.wait(JOB).state.value

    assert asyncio.run(cell()) == "succeeded"


def test_async_calls_run_side_by_side() -> None:
    async def two() -> list[str]:
        waiting, both = 0, asyncio.Event()

        async def answer(request: httpx.Request) -> httpx.Response:
            nonlocal waiting
            waiting += 1
            if waiting == 2:
                both.set()
            await both.wait()
            return httpx.Response(200, json=job())

        connect = partial(AsyncConnection, transport=httpx.MockTransport(answer))
        async with AsyncClient("http://service", connect=connect) as client:
            found = await asyncio.gather(client.jobs.retrieve(JOB), client.jobs.retrieve(JOB))
        return [str(one.id) for one in found]

    assert asyncio.run(asyncio.wait_for(two(), 60)) == [JOB, JOB]
