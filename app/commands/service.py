"""`secateur up`, and its parts for a cluster: `api`, `worker`, `migrate`.

`up` runs everything on one machine: private servers where no URLs are set, the migrations, one API, one worker. Each is
a guarded child (`app.processes`), so that nothing of it outlives the command, however that ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from app.commands.session import Exit, err, fail

if TYPE_CHECKING:
    from app.processes import ManagedProcess
    from app.settings import Settings

API_SECONDS = 90.0  # for the API to answer; two on an idle machine
WORKER_SECONDS = 120.0  # for the worker to answer; it imports torch in its fork server
RESTARTS = 5  # of a worker that ends by itself, within
RESTART_WINDOW_SECONDS = 300.0
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
    _put(
        host=host,
        port=port,
        data_dir=data_dir.absolute() if data_dir else None,
        model_roots=_joined(model_root),
        data_roots=_joined(data_root),
        concurrency=concurrency,
        device=device,
    )
    stopped = threading.Event()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: stopped.set())
    with _reported(), running(stopped) as service:
        if service is None:
            return
        more = f"[dim](try it at {service.url}/docs; Ctrl-C stops it)[/]"
        err.print(f"[bold green]Secateur is up:[/] {service.url}  {more}", soft_wrap=True)
        try:
            _watch(service, stopped)
        finally:
            err.print("[dim]stopping …[/]")


def api(host: Host = None, port: Port = None) -> None:
    """Run the HTTP service alone, in this process; for a cluster."""
    _put(host=host, port=port)
    settings = _settings(needs_urls=True)
    command = _api_command(settings.host, settings.port)
    os.execv(command[0], command)


def worker(concurrency: Concurrency = None, device: Device = None) -> None:
    """Run a worker alone, in this process; for a cluster. Start as many as there is hardware for."""
    _put(concurrency=concurrency, device=device)
    _settings(needs_urls=True)
    command = _worker_command()
    os.execv(command[0], command)


def migrate() -> None:
    """Bring the database of SECATEUR_DATABASE_URL to the schema of this version; safe to run again."""
    settings = _settings(needs_urls=True)
    with _reported(), _step("Migrations"):
        _migrate(settings)


# --- parts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Service:
    """A whole service on this machine."""

    url: str
    api: ManagedProcess
    worker: ManagedProcess


@contextmanager
def running(stopped: threading.Event) -> Iterator[Service | None]:
    """Everything that the settings of the environment ask for, for as long as the block lasts.

    Prints a line for each part that is up. None where `stopped` was set before all were.

    Raises:
        Conflict: the data folder is in use.
        Unavailable: a part does not start.
    """
    with ExitStack() as stack:
        settings = _servers(_settings(), stack)
        with _step("Migrations"):
            _migrate(settings)
        port = settings.port or _free_port(settings.host)
        url = f"http://{_reachable(settings.host)}:{port}"
        log_dir = settings.data_dir / "logs"
        log_dir.mkdir(parents=True, exist_ok=True)
        api = _process(_api_command(settings.host, port), log_dir / "api.log")
        worker = _process(_worker_command(), log_dir / "worker.log")
        with _step("API", api.log):
            stack.callback(api.stop)
            api.start()
            _await_api(api, url, stopped)
        with _step("Worker", worker.log):
            stack.callback(worker.stop)
            worker.start()
            _await_worker(worker, stopped)
        yield None if stopped.is_set() else Service(url, api, worker)


def _api_command(host: str, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory"),
        *("--host", host, "--port", str(port)),
        # event streams stay open: a shutdown ends them and does not wait for their clients
        *("--timeout-graceful-shutdown", "3", "--no-server-header"),
    ]


def _worker_command() -> list[str]:
    return [
        *(sys.executable, "-m", "celery", "--app", "workers.celery_app", "worker"),
        *("--pool", "threads", "--loglevel", _settings().log_level, "--without-gossip", "--without-mingle"),
    ]


def _process(command: list[str], log: Path) -> ManagedProcess:
    """SIGTERM stops both in order: a worker puts its stages back into the queue first."""
    from app.processes import ManagedProcess

    return ManagedProcess(command, log=log, env={**os.environ, "PYTHONUNBUFFERED": "1"}, grace_seconds=20.0)


def _servers(settings: Settings, stack: ExitStack) -> Settings:
    """Start what has no URL; the settings with both URLs, which the environment has too, for the children."""
    if settings.database_url is None:
        from app.embedded import PostgresServer

        with _step("PostgreSQL"):
            postgres = PostgresServer(settings.data_dir / "postgres")
            stack.callback(postgres.stop)
            postgres.start()
        _put(database_url=postgres.url)
    if settings.redis_url is None:
        from app.embedded import ValkeyServer

        with _step("Valkey"):
            valkey = ValkeyServer(settings.data_dir / "valkey")
            stack.callback(valkey.stop)
            valkey.start()
        _put(redis_url=valkey.url)
    return _settings(needs_urls=True)


def _migrate(settings: Settings) -> None:
    from sqlalchemy.exc import OperationalError

    from app.db.migrate import upgrade
    from app.errors import Unavailable

    assert settings.database_url is not None, "checked by _settings(needs_urls=True)"
    try:
        upgrade(settings.database_url)
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0]  # psycopg's own words; they hold no password
        raise Unavailable(f"the database does not answer: {reason}") from None


def _await_api(process: ManagedProcess, url: str, stopped: threading.Event) -> None:
    """Wait until the API says that it is ready; Unavailable if it ends first, or does not get ready in time."""
    from app.client import Client
    from app.client_errors import ClientError
    from app.errors import Unavailable

    deadline = time.monotonic() + API_SECONDS
    trouble = "it does not answer"
    with Client(url, timeout=5.0) as client:
        while not stopped.wait(0.05):
            if not process.running:
                raise Unavailable(f"the API ended with status {process.exit_code()}; its log is {process.log}")
            try:
                readiness = client.ready()
                if readiness.ready:
                    return
                trouble = ", ".join(f"{name}: {c.detail}" for name, c in readiness.checks.items() if not c.ok)
            except ClientError:
                pass  # not listening yet
            if time.monotonic() > deadline:
                raise Unavailable(f"the API is not ready: {trouble}; its log is {process.log}")


def _await_worker(process: ManagedProcess, stopped: threading.Event) -> None:
    """Wait until the worker answers a ping through the broker; Unavailable if it ends first, or does not."""
    from app.errors import Unavailable
    from app.queue import make_celery

    celery = make_celery(_settings())
    deadline = time.monotonic() + WORKER_SECONDS
    while not stopped.is_set():
        if celery.control.ping(timeout=0.3):
            return
        if not process.running:
            raise Unavailable(f"the worker ended with status {process.exit_code()}; its log is {process.log}")
        if time.monotonic() > deadline:
            raise Unavailable(f"the worker does not answer; its log is {process.log}")


def _watch(service: Service, stopped: threading.Event) -> None:
    """Wait for a signal. A worker that ends is started again, since jobs outlive it; without an API it is over."""
    from app.errors import Unavailable

    api, worker = service.api, service.worker
    restarts: list[float] = []
    while not stopped.wait(0.2):
        if not api.running:
            raise Unavailable(f"the API ended with status {api.exit_code()}; its log is {api.log}")
        if not worker.running:
            now = time.monotonic()
            restarts = [moment for moment in restarts if now - moment < RESTART_WINDOW_SECONDS] + [now]
            if len(restarts) > RESTARTS:
                raise Unavailable(f"the worker keeps ending (status {worker.exit_code()}); its log is {worker.log}")
            err.print(f"[yellow]the worker ended with status {worker.exit_code()}; starting it again[/]")
            worker.start()


@contextmanager
def _step(name: str, log: Path | None = None) -> Iterator[None]:
    """A status line: what starts, and how long it took."""
    began = time.monotonic()
    yield
    where = f"  [dim]log: {escape(str(log))}[/]" if log else ""
    err.print(f"[green]✓[/] {name:<11} {time.monotonic() - began:4.1f} s{where}", highlight=False, soft_wrap=True)


@contextmanager
def _reported() -> Iterator[None]:
    """Print the service's own errors, and those of its database, and end the command."""
    from app.errors import ServiceError

    try:
        yield
    except ServiceError as error:
        fail(error.detail)
        raise typer.Exit(Exit.SERVICE) from None


def _settings(*, needs_urls: bool = False) -> Settings:
    """The settings of the environment; what is wrong with them is printed, and ends the command."""
    try:
        from pydantic import ValidationError

        from app.settings import Settings
    except ModuleNotFoundError as error:
        fail(
            f"{error.name} is not installed: running the service needs this package's extra `server`, a worker needs "
            "`worker`; docs/install.md says how to install them"
        )
        raise typer.Exit(Exit.USAGE) from None
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            name = "".join(f"SECATEUR_{part}".upper() for part in problem["loc"][:1])
            fail(f"{name}: {problem['msg']}" if name else str(problem["msg"]).removeprefix("Value error, "))
        raise typer.Exit(Exit.USAGE) from None
    missing = [name for name in ("database_url", "redis_url") if getattr(settings, name) is None]
    if needs_urls and missing:
        names = " and ".join(f"SECATEUR_{name.upper()}" for name in missing)
        fail(f"set {names}, or run `secateur up`, which starts private servers")
        raise typer.Exit(Exit.USAGE)
    return settings


def _put(**values: Any) -> None:
    """Put options into the environment, where the settings of this process and of its children are read."""
    for name, value in values.items():
        if value is not None:
            os.environ[f"SECATEUR_{name.upper()}"] = str(value)


def _joined(paths: list[Path] | None) -> str | None:
    return os.pathsep.join(str(path.absolute()) for path in paths) if paths else None


def _reachable(host: str) -> str:
    """How this machine reaches a server that listens on `host`."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _free_port(host: str) -> int:
    import socket

    with socket.create_server((host, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
