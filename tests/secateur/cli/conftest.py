"""Commands run in this process, against a service that gives prepared answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from secateur.cli import (
    ask,
    compare,
    estimate,
    jobs,
    pipeline,
    progress,
    publish,
    results,
    session,
    spec_input,
    submit,
    sweep,
    sweep_view,
    watch,
    workers,
)
from secateur.cli.groups import datasets, sweeps
from secateur.cli.main import app as command
from secateur.client import http_client
from secateur.client.connection import BlockingConnection
from secateur.client.http_client import Client
from tests.fixtures.answers import Service


@pytest.fixture(autouse=True)
def _nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a service that somebody has started on the default address."""
    monkeypatch.setenv("SECATEUR_URL", "http://127.0.0.1:9")  # the port on which everything is thrown away


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    fake = Service()

    def client() -> Client:
        transport = httpx.MockTransport(fake.handle)
        return Client(
            "http://service", connect=partial(BlockingConnection, transport=transport, sleep=lambda seconds: None)
        )

    monkeypatch.setattr(http_client, "Client", client)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "SECATEUR_URL", "SECATEUR_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return fake


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `secateur` with these arguments; wide, and without colour."""

    def invoke(*arguments: str, input: str | None = None) -> Result:
        with monkeypatch.context() as patch:
            modules = (
                session,
                ask,
                compare,
                estimate,
                datasets,
                jobs,
                pipeline,
                progress,
                publish,
                results,
                spec_input,
                submit,
                sweep,
                sweep_view,
                sweeps,
                watch,
                workers,
            )
            for module in modules:
                for name, stderr in (("out", False), ("err", True)):
                    if hasattr(module, name):
                        patch.setattr(module, name, Console(stderr=stderr, width=200))
            return CliRunner().invoke(command, list(arguments), input=input)

    return invoke
