"""Child processes that never outlive the process that started them.

`secateur up` starts servers, an API and a worker, and must leave nothing behind, however it ends. Each child gets a
session of its own, so that Ctrl-C in the terminal reaches only the parent, which then stops the children in order.
For the case in which the parent cannot do so (SIGKILL, out of memory), a guard, one small shell, waits on a pipe whose
other end only the parent holds: when the parent is gone the pipe closes, and the guard stops the child. That works
on Linux and macOS alike and, unlike `PR_SET_PDEATHSIG`, does not depend on the thread that started the child.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# $0: the child's process group, $1: the signal that stops it, $2: seconds until SIGKILL
_GUARD = 'read -r _; kill -s "$1" -- "-$0" 2>/dev/null || exit 0; sleep "$2"; kill -s KILL -- "-$0" 2>/dev/null'


@dataclass(frozen=True)
class Account:
    """The account that a child runs as, where the parent is root."""

    user: int
    group: int


class ManagedProcess:
    """One child process: started in its own session, guarded, and stopped with a signal and a grace period."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_seconds: float = 10.0,
    ) -> None:
        """`log` is appended to; without it the child writes where the parent does."""
        self.command = [str(part) for part in command]
        self.log = log
        self._env = dict(env) if env is not None else None
        self._cwd = cwd
        self._pass_fds = tuple(pass_fds)
        self._account = account
        self._stop_signal = stop_signal
        self._grace_seconds = grace_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id, or None where it does not run."""
        return self._process.pid if self.running and self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self.exit_code() is None and self._process is not None

    def exit_code(self) -> int | None:
        """The exit status (negative: the signal that ended it), or None while it runs or was not started."""
        if self._process is None:
            return None
        code = self._process.poll()
        if code is not None:
            self._dismiss_guard()
        return code

    def start(self) -> None:
        """Start the child and its guard; nothing happens where it runs already."""
        if self.running:
            return
        output = self.log.open("ab") if self.log is not None else None
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output is not None else None,
                env=self._env,
                cwd=self._cwd,
                pass_fds=self._pass_fds,
                start_new_session=True,
                user=self._account.user if self._account else None,
                group=self._account.group if self._account else None,
                extra_groups=[] if self._account else None,
            )
        finally:
            if output is not None:
                output.close()
        arguments = [str(self._process.pid), self._stop_signal.name.removeprefix("SIG"), str(self._grace_seconds)]
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", os.defpath)},  # no key or token is for it
            start_new_session=True,
        )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child alone."""
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; False where the child still runs after `seconds`."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._dismiss_guard()
        return True

    def stop(self) -> None:
        """Ask the child to stop; kill its process group where it does not in time."""
        self.signal(self._stop_signal)
        if not self.wait(self._grace_seconds):
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the child's process group, and wait until it is gone."""
        if self._process is not None and self.running:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self.wait()

    def _dismiss_guard(self) -> None:
        """End the guard before the child's number can be given to another process."""
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard = None
