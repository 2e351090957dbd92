"""`secateur up`, and its parts for a cluster: `api`, `worker`, `migrate`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from app.local.running import api_command, migrated, running, step, worker_command
from app.local.settings_of import (
    check_folders,
    check_store,
    joined,
    leave_current_folder,
    put,
    settings_of_environment,
)
from secateur.cli.session import Exit, err, fail

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Host = Annotated[str | None, typer.Option(help="Address to listen on. Beyond loopback an API key must be set.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 for a free one.")]
Concurrency = Annotated[int | None, typer.Option(help="Stages that the worker runs at a time.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 …")]
DataDir = Annotated[Path | None, typer.Option(help="Embedded servers, cache, artifacts.", show_default=False)]
ModelRoots = Annotated[
    list[Path] | None, typer.Option("--model-root", help="A folder in which local models may lie; repeatable.")
]
DataRoots = Annotated[
    list[Path] | None, typer.Option("--data-root", help="A folder in which local texts may lie; repeatable.")
]


def up(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    model_root: ModelRoots = None,
    data_root: DataRoots = None,
    concurrency: Concurrency = None,
    device: Device = None,
) -> None:
    """Run the whole service on this machine, until Ctrl-C.

    Without SECATEUR_DATABASE_URL and SECATEUR_REDIS_URL it starts a private PostgreSQL and a private Valkey in its
    data folder. Options go before the SECATEUR_* settings of the environment.
    """
    put(
        host=host,
        port=port,
        data_dir=data_dir.absolute() if data_dir else None,
        model_roots=joined(model_root),
        data_roots=joined(data_root),
        concurrency=concurrency,
        device=device,
    )
    leave_current_folder()
    settings = settings_of_environment()
    check_folders(settings)
    check_store(settings)
    stopped = threading.Event()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: stopped.set())
    with _reported(), running(stopped) as service:
        if service is None:
            return
        more = f"[dim](dashboard; the API's page is {service.url}/docs; Ctrl-C stops it)[/]"
        err.print(f"[bold green]Secateur is up:[/] {service.url}/ui  {more}", soft_wrap=True)
        try:
            service.watch(stopped)
        finally:
            err.print("[dim]stopping …[/]")


def api(host: Host = None, port: Port = None) -> None:
    """Run the HTTP service alone, in this process; for a cluster."""
    put(host=host, port=port)
    leave_current_folder()
    settings = settings_of_environment(needs_urls=True)
    check_store(settings)
    if settings.check_local:
        check_folders(settings)
    command = api_command()
    os.execv(command[0], command)


def worker(concurrency: Concurrency = None, device: Device = None) -> None:
    """Run a worker alone, in this process; for a cluster. Start as many as there is hardware for."""
    put(concurrency=concurrency, device=device)
    leave_current_folder()
    settings = settings_of_environment(needs_urls=True)
    check_store(settings)
    check_folders(settings)
    command = worker_command()
    os.execv(command[0], command)


def migrate() -> None:
    """Bring the database of SECATEUR_DATABASE_URL to the schema of this version; safe to run again."""
    leave_current_folder()
    settings = settings_of_environment(needs_urls=True)
    with _reported(), step("Migrations"):
        migrated(settings)


@contextmanager
def _reported() -> Iterator[None]:
    """Print the service's own errors, and those of its database, and end the command."""
    from secateur.contract.errors import ServiceError

    try:
        yield
    except ServiceError as error:
        fail(error.detail)
        raise typer.Exit(Exit.SERVICE) from None
