"""The processes of the other ranks: forked from the stage process before it computes, called when it trains.

A stage process is itself the fork of a server that has imported everything and has touched no device. While that
still holds of it, a fork costs nothing, has all that it needs in memory, and can start CUDA afresh. So the ranks are
forked at the very beginning, and wait. When the first rank comes to its training, it calls them; each then goes the
same way itself, finds what the first has computed and stored, and joins.

No rank outlives the first, however that ends: each holds the end of a pipe on which nothing but its closing is awaited.
And the first does not outlive the failure of another: it says what happened, as that rank reported it, and ends.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NoReturn

from secateur.contract.errors import ServiceError, StageFailed

logger = logging.getLogger(__name__)

STUCK_SECONDS = 20.0  # a first rank that has not noticed the end of another one by then waits for it in vain
END_SECONDS = 30.0  # for the others to end when the training is over
_CALL = b"!"

Work = Callable[[int, Callable[[], None]], None]


@dataclass
class _Process:
    """One other rank, as the first sees it."""

    rank: int
    pid: int
    lifeline: int  # written to once, to call it; the process ends when it is closed
    reports: int  # JSON lines; closed when the process ends
    ready: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    listened_to: bool = False  # by a thread, which closes the pipe
    problem: str | None = None  # what it said of its failure
    foreseen: bool = False  # it failed for a reason of its own, and not for another rank's sake
    status: int | None = None  # once it has ended; negative: the signal


class RankProcesses:
    """The other ranks of a training."""

    def __init__(
        self,
        count: int,
        work: Work,
        *,
        describe: Callable[[BaseException], StageFailed],
        on_stuck: Callable[[StageFailed], None],
    ) -> None:
        """Fork ranks 1 … count - 1. This process must have no other thread, and must not have touched a GPU.

        Args:
            work: what another rank does when it is called, given its number and a function by which it says that it
                is ready to join.
            describe: the words for an exception that nobody foresaw.
            on_stuck: called, in a thread, where another rank failed and this one waits for it in an operation that
                cannot be interrupted; it should end the process.
        """
        self._count = count
        self._on_stuck = on_stuck
        self._lock = threading.Lock()
        self._failed = threading.Event()
        self._left = threading.Event()  # the training is over in the first rank, one way or the other
        self._processes: list[_Process] = []
        for rank in range(1, count):
            self._fork(rank, work, describe)

    @contextmanager
    def called(self) -> Iterator[None]:
        """Call the others, and wait until all are ready; when the block is left, they have ended.

        Raises:
            StageFailed: one of them ended before it was ready.
        """
        for process in self._processes:
            with suppress(BrokenPipeError):
                os.write(process.lifeline, _CALL)
            process.listened_to = True
            threading.Thread(target=self._listen, args=(process,), daemon=True).start()
        try:
            for process in self._processes:
                while not process.ready.wait(0.1):
                    failure = self.failure(0.0)
                    if failure is not None:
                        raise failure
            yield
            self._left.set()
            for process in self._processes:
                process.ended.wait(END_SECONDS)
        finally:
            self._left.set()
            self.close()

    def failure(self, patience: float) -> StageFailed | None:
        """What ended another rank, if one failed or does so within so many seconds."""
        if not self._failed.wait(patience):
            return None
        failed = [process for process in self._processes if process.status]
        causes = [process for process in failed if process.foreseen or (process.status or 0) < 0]
        return self._explain((causes or failed)[0])  # the others may have broken because that one was gone

    def close(self) -> None:
        """End the others, wherever they are."""
        for process in self._processes:
            with self._lock:
                if process.status is None:
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
            self._reap(process)
        for process in self._processes:
            os.close(process.lifeline)
            if not process.listened_to:
                os.close(process.reports)
        self._processes = []

    def _fork(self, rank: int, work: Work, describe: Callable[[BaseException], StageFailed]) -> None:
        lifeline_read, lifeline = os.pipe()
        reports, reports_write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            for descriptor in (lifeline, reports, *(each for p in self._processes for each in (p.lifeline, p.reports))):
                os.close(descriptor)
            _serve(rank, work, describe, lifeline_read, reports_write)
        os.close(lifeline_read)
        os.close(reports_write)
        self._processes.append(_Process(rank, pid, lifeline, reports))

    def _listen(self, process: _Process) -> None:
        """Read what a process reports until it ends, and see to it that a failure is noticed."""
        with os.fdopen(process.reports, "rb") as reports:
            for line in reports:
                report = json.loads(line)
                if "traceback" in report:
                    logger.error("rank %d of the training:\n%s", process.rank, report["traceback"])
                process.problem = report.get("problem", process.problem)
                process.foreseen = report.get("foreseen", False)
                if "ready" in report:
                    process.ready.set()
        self._reap(process)
        if process.status:
            self._failed.set()
            if not self._left.wait(STUCK_SECONDS):
                self._on_stuck(self._explain(process))

    def _reap(self, process: _Process) -> None:
        with self._lock:
            if process.status is None:
                process.status = os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
        process.ended.set()

    def _explain(self, process: _Process) -> StageFailed:
        who = f"Process {process.rank + 1} of the {self._count} that trained together"
        if process.problem is not None:
            return StageFailed(f"{who} failed. {process.problem}")
        status = process.status or 0
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        more = ", most likely because the machine ran out of memory" if status == -signal.SIGKILL else ""
        return StageFailed(f"{who} {how}{more}. Retry the job: it goes on from its last checkpoint.")


def _serve(
    rank: int, work: Work, describe: Callable[[BaseException], StageFailed], lifeline: int, reports: int
) -> NoReturn:
    """The process of another rank, from its fork to its end."""
    code = 1

    def report(**message: object) -> None:
        with suppress(BrokenPipeError):
            os.write(reports, json.dumps(message).encode() + b"\n")

    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if os.read(lifeline, 1) != _CALL:  # there was nothing to train, or the first rank is gone
            os._exit(0)
        threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
        work(rank, lambda: report(ready=True))
        code = 0
    except ServiceError as error:
        report(problem=error.detail, foreseen=True)
    except BaseException as error:
        traceback.print_exc()
        report(problem=describe(error).detail, traceback=traceback.format_exc()[-8000:])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end_with(lifeline: int) -> None:
    """End when the first rank closes the pipe, which the kernel does for it where it is killed."""
    os.read(lifeline, 1)
    os._exit(1)
