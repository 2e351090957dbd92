"""The fork server: a process that has imported torch, transformers and the stages once, and forks the stage processes.

The imports take five to nine seconds, a fork some hundredths. The server runs one thread and never touches a
device, so forking it is safe, and a stage can initialise CUDA afresh; the Celery process, which has threads and
database connections, neither forks nor imports torch.

It is a program of its own (`python -m workers.launch.fork_server`) on one end of a socket pair and not the standard
library's `multiprocessing` fork server, see docs/decisions/fork-server.md: what a stage needs is a path and three
pipes, so nothing is pickled, the stage does not import the worker's main module again, and it never sees the worker's
secrets. The server ends when its worker does. A server that has died is started anew by the next stage.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil
from structlog.contextvars import bind_contextvars

from app import logs
from secateur import masking
from workers.launch.guardian import Entry, Orders, guard
from workers.machine.use import Use

logger = logging.getLogger("workers.fork_server")  # the program's own name is __main__

_HEADER = struct.Struct("!I")  # the length of the request that follows; the descriptors come with it
_ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",  # numpy's; torch has its own, whose threads start with the first computation
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # the allocator of pyarrow, which datasets imports
}
_NO_DRIVER = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}  # whoever asks torch for a GPU while it is imported starts no CUDA
_STARTS_DRIVER = ("bitsandbytes",)  # packages that do, and that others import where they are installed


@dataclass(frozen=True)
class Exit:
    """How a stage process ended."""

    code: int | None  # exit status, negative for a signal; None if it never began or nobody saw its end
    # "ended" by itself, "killed" on request, over its "memory", "lease" ran out, "lost" with its guardian
    reason: str
    max_rss: int = 0  # bytes, of the largest process, with its mapped files
    memory: int = 0  # bytes that all its processes used together at most, without


class StageProcess:
    """A stage process as its supervisor sees it. Not thread-safe, but for `extend`."""

    def __init__(self, *, events: int, control: int, status: int) -> None:
        self.events = events  # read end, non-blocking
        self.status = status  # read end, non-blocking
        self.pid: int | None = None  # known once the guardian has told
        self.exit: Exit | None = None
        self.use: Use | None = None  # as the guardian has last told it
        self._control = control
        self._buffer = b""

    def extend(self, until: float) -> None:
        """The lease runs until then, by `lease_clock`."""
        self._order(f"until {until!r}")

    def terminate(self) -> None:
        """SIGTERM to the stage's process group."""
        self._order("term")

    def kill(self) -> None:
        """SIGKILL to everything under the guardian."""
        self._order("kill")

    def poll(self) -> Exit | None:
        """How it ended, if it has."""
        while self.exit is None:
            try:
                data = os.read(self.status, 4096)
            except BlockingIOError:
                break
            if not data:
                self._lost()
                break
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "pid" in message:
                    self.pid = message["pid"]
                elif "use" in message:
                    self.use = Use(**message["use"])
                else:
                    self.exit = Exit(message["code"], message["reason"], message["max_rss"], message["memory"])
        return self.exit

    def close(self) -> None:
        """Let go of the pipes, which ends whatever still runs."""
        for descriptor in (self.events, self._control, self.status):
            with suppress(OSError):
                os.close(descriptor)

    def _lost(self) -> None:
        """The guardian is gone without a word; on Linux the stage went with it, elsewhere it is ended here."""
        if self.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self.exit = Exit(None, "lost")

    def _order(self, line: str) -> None:
        with suppress(BrokenPipeError):  # it has ended
            os.write(self._control, line.encode() + b"\n")


class ForkServer:
    """The worker's handle on the server; threads may share it."""

    def __init__(
        self, entry: str, preload: Sequence[str], *, log_level: str = "info", log_format: logs.LogFormat = "auto"
    ) -> None:
        """`entry` is `module:function`, called with the path of the spec and the descriptor of the events."""
        self._entry, self._preload = entry, tuple(preload)
        self._logging = ("--log-level", log_level, "--log-format", log_format)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def warm(self) -> None:
        """Start the server, if it does not run; it imports while the caller goes on."""
        with self._lock:
            self._connection()

    def start(
        self,
        spec: Path,
        *,
        log: Path,
        until: float,
        memory: int,
        function: str | None = None,
        hub_token: str | None = None,
        about: Mapping[str, object] | None = None,
    ) -> StageProcess:
        """Start a stage that may use so many bytes. Returns at once; whether it began is seen by its `poll`.

        Args:
            function: of the entry's module, to run in the place of the entry's own.
            hub_token: for a stage that fetches from the hub.
            about: what the lines that the process logs tell beside their words: the job, the stage, the attempt.
        """
        events, events_write = os.pipe()
        control_read, control = os.pipe()
        status, status_write = os.pipe()
        token, token_write = os.pipe()
        os.write(token_write, (hub_token or "").encode())
        os.close(token_write)
        for descriptor in (events, status):
            os.set_blocking(descriptor, False)
        asked = {"spec": str(spec), "log": str(log), "until": until, "memory": memory, "function": function}
        asked["about"] = dict(about or {})
        request = json.dumps(asked).encode()
        theirs = [events_write, control_read, status_write, token]
        try:
            with self._lock:
                for last in (False, True):
                    connection = self._connection()
                    try:
                        socket.send_fds(connection, [_HEADER.pack(len(request)) + request], theirs)
                        break
                    except OSError:  # it died since we looked
                        self._discard()
                        if last:
                            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return StageProcess(events=events, control=control, status=status)

    def stop(self) -> None:
        """End the server; stages go on until their pipes are closed."""
        with self._lock:
            self._discard()

    def _connection(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            logger.warning("the fork server has died (exit status %s); starting it anew", self._process.returncode)
            self._discard()
        if self._socket is None:
            ours, theirs = socket.socketpair()
            with theirs:
                command = [sys.executable, "-P", "-m", "workers.launch.fork_server", "--socket", str(theirs.fileno())]
                command += [*self._logging, "--entry", self._entry, *self._preload]
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=environment(os.environ),
                    start_new_session=True,
                )
            self._socket = ours
        return self._socket

    def _discard(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The worker's, without secrets, and with libraries kept from starting threads when they are imported."""
    return {**_ONE_THREAD, **_NO_DRIVER, **masking.without_secrets(inherited)}


@contextmanager
def _without(packages: Sequence[str]) -> Iterator[None]:
    """As if these packages were not installed, until the block is left; a stage that needs one imports it itself.

    What transformers remembers of their absence is forgotten again, and what peft does is not: its modules are built
    without.
    """
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: Python's own way to say "there is none"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
            known = getattr(sys.modules.get("transformers.utils.import_utils"), f"is_{name}_available", None)
            if known is not None:
                known.cache_clear()


def _loaded(library: str) -> bool:
    """Whether this process has loaded a shared library of that name (Linux)."""
    try:
        return any(f"/{library}." in line for line in Path("/proc/self/maps").read_text().splitlines())
    except OSError:
        return False


def _serve(connection: socket.socket, entry: Entry) -> None:
    """Fork a guardian for each request until the worker closes its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects guardians
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        header, descriptors, _, _ = socket.recv_fds(connection, _HEADER.size, 4)
        if len(header) < _HEADER.size:
            return
        body = b""
        while len(body) < (size := _HEADER.unpack(header)[0]):
            body += connection.recv(size - len(body))
        if os.fork() == 0:
            connection.close()
            _guard(entry, json.loads(body), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _guard(entry: Entry, request: dict[str, object], descriptors: Sequence[int]) -> NoReturn:
    events, control, status, token = descriptors
    spec, log, until = Path(str(request["spec"])), Path(str(request["log"])), float(str(request["until"]))
    memory = int(str(request["memory"]))
    about: dict[str, object] = request["about"]  # type: ignore[assignment]  # as `start` made it
    bind_contextvars(**about)
    if request["function"] is not None:
        entry = getattr(sys.modules[entry.__module__], str(request["function"]))
    guard(entry, Orders(spec, log, until, memory, events=events, control=control, status=status, token=token))


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workers.launch.fork_server", description="Started by a worker.")
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--entry", required=True, help="module:function that runs a stage")
    parser.add_argument("--log-level", required=True)
    parser.add_argument("--log-format", required=True)
    parser.add_argument("preload", nargs="*", help="modules to import first")
    arguments = parser.parse_args()
    logs.set_up(arguments.log_level, form=arguments.log_format)  # of the stages too, which are forks
    gc.disable()  # imports make next to no garbage, and looking for it takes a tenth of their time
    with _without(_STARTS_DRIVER):
        for name in arguments.preload:
            importlib.import_module(name)
    module, _, function = arguments.entry.partition(":")
    entry: Entry = getattr(importlib.import_module(module), function)
    logs.take_over()
    gc.collect()
    gc.freeze()  # what was imported stays: a stage that collects does not look through it, nor write to its pages
    gc.enable()
    threads = psutil.Process().num_threads()
    if threads > 1:
        logger.warning("fork server: %d threads after the imports; forks may hang", threads)
    if _loaded("libcuda.so"):
        logger.warning("fork server: the GPU's driver was loaded by the imports; forks may not use it")
    with socket.socket(fileno=arguments.socket) as connection:
        _serve(connection, entry)


if __name__ == "__main__":
    _main()
