"""The guardian: a small process between the worker and each stage process, so that nothing is ever left running.

It leads a session of its own, starts the stage in a process group in it, and outlives it by a moment. It ends the stage
and everything under it when

- the worker asks for it (a cancel, a time limit, a shutdown),
- the worker is gone, however it went: the control pipe closes,
- it uses more memory than it may, with all that it has started (docs/decisions/memory-limit.md),
- the lease has run out and the worker has not renewed it. So also a worker that was stopped (SIGSTOP, a suspended
  machine, a database that does not answer) never has two processes working on one stage, in one scratch folder.

As a subreaper (Linux) it inherits what the stage leaves behind, also processes that made a session of their own. If
the guardian itself is killed, the stage dies with it (PR_SET_PDEATHSIG, Linux), and the worker sees the pipe close.

Control lines, worker to guardian: `until SECONDS` (of `lease_clock`), `term`, `kill`. Status lines, back, in JSON:
`{"pid": …}`, now and then `{"use": …}`, then `{"code": …, "reason": …, "max_rss": …, "memory": …}`.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil

from app import logs
from workers.machine import hub_token
from workers.machine.memory import TreeMeter
from workers.machine.use import Use, UseMeter

logger = logging.getLogger(__name__)

Entry = Callable[[Path, int], int]

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
MEMORY_SECONDS = 0.05  # how often it is measured: a core fills some 200 MB in that time
EXIT_BROKEN = 70  # EX_SOFTWARE: the entry raised what it should have reported
_OOM_SCORE, _FIRST_TO_GO = Path("/proc/self/oom_score_adj"), "1000"
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def lease_clock() -> float:
    """Seconds on a clock that all processes of this machine share, and that runs on while it sleeps."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True)
class Orders:
    """What the guardian is to start, and its ends of the pipes."""

    spec: Path
    log: Path  # takes the stage's standard output and error
    until: float  # end of the lease, by `lease_clock`
    memory: int  # bytes that the stage may use
    events: int
    control: int
    status: int
    token: int  # read end of a pipe that holds the hub's token, or nothing


def guard(entry: Entry, orders: Orders) -> NoReturn:
    """Run `entry(spec, events)` in a new process, watch over it, report its end, and exit."""
    os.setsid()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wake_read, wake_write = os.pipe()
    for descriptor in (wake_read, wake_write, orders.control):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    guardian = os.getpid()
    stage = os.fork()
    if stage == 0:
        for descriptor in (wake_read, wake_write, orders.control, orders.status):
            os.close(descriptor)
        _run(entry, orders, guardian)
    with suppress(OSError):  # the child does it too; whoever comes first
        os.setpgid(stage, stage)
    os.close(orders.events)
    os.close(orders.token)
    _tell(orders.status, {"pid": stage})
    meter = TreeMeter()
    code, max_rss, reason = _watch(stage, orders, wake_read, meter)
    _end_all(stage)
    _tell(orders.status, {"code": code, "max_rss": max_rss, "reason": reason, "memory": meter.peak or max_rss})
    os._exit(0)


def _watch(stage: int, orders: Orders, wake: int, meter: TreeMeter) -> tuple[int, int, str]:
    """Wait for the stage's end: its exit code (negative: the signal), greatest memory in bytes, and why it ended."""
    until, reason, buffer, control = orders.until, "ended", b"", [orders.control]
    use_meter = UseMeter(meter)
    while True:
        patience = max(0.0, min(MEMORY_SECONDS, until - lease_clock())) if reason == "ended" else None
        ready, _, _ = select.select([wake, *control], [], [], patience)
        if wake in ready:
            with suppress(BlockingIOError):
                os.read(wake, 4096)
            ended = _reap(stage)
            if ended is not None:
                return (*ended, reason)
        if control and control[0] in ready:
            data = os.read(control[0], 4096)
            if not data:
                reason, control = "orphaned", []
                _end_all(stage, reap=False)
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                word, _, value = line.decode().partition(" ")
                if word == "until":
                    until = float(value)
                elif word == "term":
                    _signal_group(stage, signal.SIGTERM)
                elif word == "kill":
                    reason = "killed"
                    _end_all(stage, reap=False)
        if reason == "ended" and meter.exceeds(orders.memory):
            reason = "memory"
            _end_all(stage, reap=False)
        if reason == "ended" and (use := use_meter.look()) is not None:
            tell_use(orders.status, use)
        if reason == "ended" and lease_clock() >= until:
            reason = "lease"
            _end_all(stage, reap=False)


def _reap(stage: int) -> tuple[int, int] | None:
    """Collect every child that has ended; exit code and greatest memory of the stage, if it is among them."""
    found = None
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == stage:
            unit = 1 if sys.platform == "darwin" else 1024
            found = os.waitstatus_to_exitcode(status), usage.ru_maxrss * unit


def _end_all(stage: int, *, reap: bool = True) -> None:
    """SIGKILL to the stage's group and to every descendant; with `reap`, until none is left."""
    while True:
        _signal_group(stage, signal.SIGKILL)
        left = psutil.Process().children(recursive=True)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if not reap or not left:
            return
        _reap(-1)
        time.sleep(0.005)


def _signal_group(stage: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(stage, number)


def tell_use(status: int, use: Use) -> None:
    """Tell the worker, where it listens: nobody is waited for here, since leases end meanwhile."""
    if select.select([], [status], [], 0)[1]:
        _tell(status, {"use": use.as_json()})


def _tell(status: int, message: dict[str, object]) -> None:
    with suppress(BrokenPipeError):  # the worker is gone
        os.write(status, json.dumps(message).encode() + b"\n")


def _run(entry: Entry, orders: Orders, guardian: int) -> NoReturn:
    """The stage process itself."""
    code = EXIT_BROKEN
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):  # where memory runs out, the kernel is to end the stage and no one else
            _OOM_SCORE.write_text(_FIRST_TO_GO)
        if os.getppid() != guardian:  # it died before the call above
            os._exit(EXIT_BROKEN)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        _redirect(orders.log)
        logs.to_a_file()
        with os.fdopen(orders.token) as token:
            hub_token.keep(token.read())
        code = entry(orders.spec, orders.events)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        logger.critical("an error that the stage did not report", exc_info=True)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _redirect(log: Path) -> None:
    """Standard input from nowhere, output and error into the log."""
    null = os.open(os.devnull, os.O_RDONLY)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(null)
    os.close(file)


def _prctl(option: int, value: int) -> None:
    """On Linux; elsewhere the guardian does without."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
