"""Code of strangers in a process of its own: how it ended is told for what it was."""

from __future__ import annotations

import faulthandler
import os
import signal
import time

import pytest

from secateur.contract.errors import StageFailed
from workers.engine.bounded_child import BoundedChild, ChildEnded, OutOfMemory, OutOfTime


def answer(question: bytes) -> bytes:
    match question.decode().split():
        case ["sleep"]:
            time.sleep(60)
        case ["memory"]:
            return bytes(8 << 30)
        case ["exit"]:
            os._exit(3)
        case ["signal", number]:
            faulthandler.disable()
            os.kill(os.getpid(), int(number))
        case ["raise"]:
            raise ValueError("no")
    return question * 2


@pytest.mark.parametrize(("question", "kind", "says"), [
    ("sleep", OutOfTime, "took more than 0.5 s"),
    ("memory", OutOfMemory, "ran out of memory"),
    ("exit", ChildEnded, "ended with exit status 3"),
    ("raise", ChildEnded, "ended with exit status 70"),
    (f"signal {signal.SIGSEGV.value}", ChildEnded, "crashed (SIGSEGV)"),
    (f"signal {signal.SIGKILL.value}", StageFailed, "A process of the stage was killed (SIGKILL) by someone or "
     "something on its machine."),
])  # fmt: skip
def test_how_it_ended(question: str, kind: type[Exception], says: str) -> None:
    with BoundedChild(answer, memory=1 << 30) as child:
        assert child.ask(b"ab", seconds=30) == b"abab"
        with pytest.raises(kind) as caught:
            child.ask(question.encode(), seconds=0.5)
        assert type(caught.value) is kind
        assert str(caught.value) == says
        assert child.ask(b"c", seconds=30) == b"cc"  # it begins anew


def test_nothing_is_left_behind() -> None:
    def children() -> str:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123 - the kernel's
            return file.read()

    before = children()
    with BoundedChild(answer) as child:
        child.ask(b"x", seconds=30)
        assert children() != before
    assert children() == before
