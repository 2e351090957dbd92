"""A whole service on this machine: private servers where no URLs are set, the migrations, one API, one worker.

Each is a guarded child (`app.local.processes`), so that nothing of it outlives this process, however that ends. Nothing
of the data folder is touched before its lock is held, and the port is bound before anything starts.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from app.local.parts import Part, Watch
from app.local.settings_of import put, settings_of_environment
from secateur.cli.session import err
from secateur.contract.shown import first_line

if TYPE_CHECKING:
    from app.local.processes import ManagedProcess
    from app.settings import Settings

API_SECONDS = 90.0  # for the API to answer; two on an idle machine
WORKER_SECONDS = 120.0  # for the worker to answer; it imports torch in its fork server
LOOK_SECONDS = 0.2  # between looks at the parts
ASK_SECONDS = 10.0  # between questions to the API whether it is ready


@dataclass(frozen=True)
class Service:
    """A whole service on this machine."""

    url: str
    parts: tuple[Part, ...]
    ready: Callable[[], str | None]  # None where the API says that it is ready, else what is wrong

    def watch(self, stopped: threading.Event) -> None:
        """Until `stopped` is set: start again what ends, and say when the service cannot work and when it can again."""
        watch = Watch(self.parts, lambda line: err.print(f"[yellow]{escape(line)}[/]", soft_wrap=True))
        trouble: str | None = None
        asked = time.monotonic()
        while not stopped.wait(LOOK_SECONDS):
            watch.look()
            if time.monotonic() - asked >= ASK_SECONDS:
                found, asked = self.ready(), time.monotonic()
                if found is not None and trouble is None:
                    err.print(f"[yellow]the service is not ready: {escape(found)}[/]", soft_wrap=True)
                elif found is None and trouble is not None:
                    err.print("[green]the service is ready again[/]")
                trouble = found


@contextmanager
def running(stopped: threading.Event) -> Iterator[Service | None]:
    """Everything that the settings of the environment ask for, for as long as the block lasts.

    Prints a line for each part that is up. None where `stopped` was set before all were.

    Raises:
        Conflict: the data folder is in use.
        Unavailable: a part does not start, or the port is another program's.
    """
    from app.http.listening import bind
    from app.local.server_folder import FolderLock
    from secateur.contract.errors import Unavailable

    with ExitStack() as stack:
        settings = settings_of_environment()
        try:
            lock = FolderLock(settings.data_dir, data_dir=settings.data_dir)
            stack.callback(lock.release)
            lock.acquire()
            listeners = [stack.enter_context(listener) for listener in bind(settings.host, settings.port)]
            parts, settings = _servers(settings, stack)
            with step("Migrations"):
                migrated(settings)
            port: int = listeners[0].getsockname()[1]
            url = f"http://{_reachable(settings.host)}:{port}"
            log_dir = settings.data_dir / "logs"
            log_dir.mkdir(parents=True, exist_ok=True)
            instance = secrets.token_hex(16)
            api = _process(api_command(listeners), log_dir / "api.log", listeners, SECATEUR_INSTANCE=instance)
            worker = _process(worker_command(), log_dir / "worker.log")
            stack.callback(api.stop)
            stack.callback(worker.stop)
            began = time.monotonic()
            api.start()  # neither waits for the other, and both import for seconds
            worker.start()
            with step("API", api.log, began):
                _await_api(api, url, instance, stopped)
            with step("Worker", worker.log, began):
                _await_worker(worker, stopped)
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise Unavailable(f"the service cannot start in the data folder {settings.data_dir}: {what}") from error
        parts += [
            Part("the API", log_dir / "api.log", api.start, api.exit_code),
            Part("the worker", log_dir / "worker.log", worker.start, worker.exit_code),
        ]
        service = Service(url, tuple(parts), lambda: _trouble(url, instance) or _idle())
        yield None if stopped.is_set() else service


def api_command(listeners: list[socket.socket] | None = None) -> list[str]:
    """The program of the API. With -P the current folder holds no module of it, whatever lies there."""
    sockets = [part for listener in listeners or [] for part in ("--fd", str(listener.fileno()))]
    return [sys.executable, "-P", "-m", "app.serve", *sockets]


def worker_command() -> list[str]:
    """The program of the worker, likewise."""
    return [sys.executable, "-P", "-m", "workers.main"]


def migrated(settings: Settings) -> None:
    """Bring the database to the schema of this version. Unavailable if it does not answer."""
    from sqlalchemy.exc import OperationalError

    from app.db.migrate import upgrade
    from secateur.contract.errors import Unavailable

    assert settings.database_url is not None, "checked by settings_of_environment(needs_urls=True)"
    try:
        upgrade(settings.database_url)
    except OperationalError as error:
        reason = first_line(error.orig or error)  # psycopg's own words; they hold no password
        raise Unavailable(f"the database does not answer: {reason}") from None


@contextmanager
def step(name: str, log: Path | None = None, began: float | None = None) -> Iterator[None]:
    """A status line: what starts, and how long it took, from `began` on where that was earlier."""
    began = time.monotonic() if began is None else began
    yield
    where = f"  [dim]log: {escape(str(log))}[/]" if log else ""
    err.print(f"[green]✓[/] {name:<11} {time.monotonic() - began:4.1f} s{where}", highlight=False, soft_wrap=True)


def _process(
    command: list[str], log: Path, listeners: list[socket.socket] | None = None, **environment: str
) -> ManagedProcess:
    """SIGTERM stops both in order: a worker puts its stages back into the queue first."""
    from app.local.processes import ManagedProcess

    return ManagedProcess(
        command,
        log=log,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1", **environment},
        pass_fds=[listener.fileno() for listener in listeners or []],
        grace_seconds=20.0,
    )


def _servers(settings: Settings, stack: ExitStack) -> tuple[list[Part], Settings]:
    """Start what has no URL; the settings with both URLs, which the environment has too, for the children."""
    parts = []
    if settings.database_url is None:
        from app.local.embedded import PostgresServer

        with step("PostgreSQL"):
            postgres = PostgresServer(settings.data_dir / "postgres")
            stack.callback(postgres.stop)
            postgres.start()
        put(database_url=postgres.url)
        parts.append(Part("PostgreSQL", postgres.log, postgres.start, postgres.exit_code))
    if settings.redis_url is None:
        from app.local.embedded import ValkeyServer

        with step("Valkey"):
            valkey = ValkeyServer(settings.data_dir / "valkey")
            stack.callback(valkey.stop)
            valkey.start()
        put(redis_url=valkey.url)
        parts.append(Part("Valkey", valkey.log, valkey.start, valkey.exit_code))
    return parts, settings_of_environment(needs_urls=True)


def _await_api(process: ManagedProcess, url: str, instance: str, stopped: threading.Event) -> None:
    """Wait until this very API says that it is ready; Unavailable if it ends first, or does not get ready in time."""
    from secateur.contract.errors import Unavailable

    deadline = time.monotonic() + API_SECONDS
    while not stopped.wait(0.05):
        if not process.running:
            raise Unavailable(f"the API ended with status {process.exit_code()}; its log is {process.log}")
        trouble = _trouble(url, instance)
        if trouble is None:
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"the API is not ready: {trouble}; its log is {process.log}")


def _trouble(url: str, instance: str) -> str | None:
    """What keeps the API that was started as `instance` from being ready; another service's answer does not count."""
    from secateur.client.errors import ClientError
    from secateur.client.http_client import Client

    try:
        with Client(url, timeout=5.0) as client:
            if client.health().instance != instance:
                return f"another service answers at {url}"
            readiness = client.ready()
    except ClientError:
        return "the API does not answer"
    if readiness.ready:
        return None
    return ", ".join(f"{name}: {check.detail}" for name, check in readiness.checks.items() if not check.ok)


def _idle() -> str | None:
    """Why the worker takes no stages, if it says so."""
    from app.broker.queue import idle_workers, make_celery

    idle = idle_workers(celery=make_celery(settings_of_environment()))
    return f"the worker takes no stages, since its device does not work: {idle[0]}" if idle else None


def _await_worker(process: ManagedProcess, stopped: threading.Event) -> None:
    """Wait until the worker answers a ping through the broker; Unavailable if it ends first, or does not."""
    from app.broker.queue import BROKER_ERRORS, make_celery
    from secateur.contract.errors import Unavailable

    celery = make_celery(settings_of_environment())
    deadline = time.monotonic() + WORKER_SECONDS
    while not stopped.is_set():
        with suppress(*BROKER_ERRORS):
            if celery.control.ping(timeout=0.3, limit=1):
                return
        if not process.running:
            raise Unavailable(f"the worker ended with status {process.exit_code()}; its log is {process.log}")
        if time.monotonic() > deadline:
            raise Unavailable(f"the worker does not answer; its log is {process.log}")


def _reachable(host: str) -> str:
    """How this machine reaches a server that listens on `host`."""
    if host == "0.0.0.0":
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
