"""A process of one's own for code that runs over what a stranger made, and that nothing inside this process could stop.

A chat template is a program, and a tokenizer's pattern can take hours over a megabyte of text; neither looks at a clock
or a signal while it runs. So both run in a fork of this process, which has all that they need in memory and starts in
no time, and which is ended where it takes too long. How it ended is told for what it was: time, memory, or a crash.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import NoReturn, Self

from secateur.contract.errors import StageFailed

_EXIT_BROKEN, _EXIT_MEMORY = 70, 71


class ChildEnded(Exception):
    """There is no answer, in words that follow "it"."""


class OutOfTime(ChildEnded):
    """It took too long, and was ended."""


class OutOfMemory(ChildEnded):
    """It asked for more memory than it may have."""


class BoundedChild:
    """Answers questions in a process of its own, one at a time; to be closed. After an end it begins anew."""

    def __init__(self, answer: Callable[[bytes], bytes], *, memory: int | None = None) -> None:
        """`answer` runs in the fork; `memory`: bytes of address space beyond what this process has."""
        self._answer, self._memory = answer, memory
        self._pid: int | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, question: bytes, *, seconds: float) -> bytes:
        """The answer.

        Raises:
            ChildEnded: OutOfTime, OutOfMemory, or it crashed.
            StageFailed: somebody killed it.
        """
        if self._pipe is None:
            self._start()
        assert self._pipe is not None, "it was started just now"
        try:
            self._pipe.send_bytes(question)
            if self._pipe.poll(seconds):
                return self._pipe.recv_bytes()
        except (EOFError, OSError):
            raise self._ended() from None
        self.close()
        raise OutOfTime(f"took more than {seconds:g} s")

    def close(self) -> None:
        """End the process, if it runs."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._forget()

    def _start(self) -> None:
        ours, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _serve(theirs, self._answer, self._memory)
        theirs.close()
        self._pid, self._pipe = pid, ours

    def _ended(self) -> ChildEnded:
        """What the status says of a process that has closed its end of the pipe: that is the last thing it does."""
        assert self._pid is not None, "it was asked"
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._forget()
        if code == _EXIT_MEMORY:
            return OutOfMemory("ran out of memory")
        if code >= 0:
            return ChildEnded(f"ended with exit status {code}")
        if code == -signal.SIGKILL:  # says nothing of what it ran
            raise StageFailed("A process of the stage was killed (SIGKILL) by someone or something on its machine.")
        return ChildEnded(f"crashed ({signal.Signals(-code).name})")

    def _forget(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        self._pid = self._pipe = None


def _serve(pipe: Connection, answer: Callable[[bytes], bytes], memory: int | None) -> NoReturn:
    """The process that answers, from its fork to its end."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads did not come along
        if memory is not None:
            _limit_memory(memory)
        while True:
            pipe.send_bytes(answer(pipe.recv_bytes()))
    except MemoryError:
        os._exit(_EXIT_MEMORY)
    except EOFError:  # nobody asks any more
        os._exit(0)
    except BaseException:
        os._exit(_EXIT_BROKEN)


def _limit_memory(size: int) -> None:
    """Let this process have so much more address space than it has been born with."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123 - one line of the kernel's
            born = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (born + size, born + size))
    except (OSError, ValueError):  # no such file outside Linux
        return
