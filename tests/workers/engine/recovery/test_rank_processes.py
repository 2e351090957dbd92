"""The processes beside the first: that they wait, come, and go, and that nobody waits for one that is gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from secateur.contract.errors import StageFailed
from workers.engine.recovery import rank_processes
from workers.engine.recovery.rank_processes import RankProcesses, Work
from workers.engine.recovery.ranks import most_ranks

Start = Callable[..., RankProcesses]


def broken(error: BaseException) -> StageFailed:
    return StageFailed(f"It broke with {type(error).__name__}.")


@pytest.fixture
def start() -> Iterator[Start]:
    """start(work, count=3): processes beside this one; none is left after the test."""
    started: list[RankProcesses] = []
    before = set(psutil.Process().children())

    def begin(work: Work, *, count: int = 3, on_stuck: Callable[[StageFailed], None] = print) -> RankProcesses:
        started.append(RankProcesses(count, work, describe=broken, on_stuck=on_stuck))
        return started[-1]

    yield begin
    for processes in started:
        processes.close()
    assert set(psutil.Process().children()) == before


def stay(rank: int, ready: Callable[[], None]) -> None:
    ready()
    time.sleep(60)


def test_they_do_their_work_when_they_are_called_and_not_before(start: Start, tmp_path: Path) -> None:
    def work(rank: int, ready: Callable[[], None]) -> None:
        (tmp_path / f"{rank}").touch()
        ready()

    uncalled = start(work)
    processes = start(work)
    with processes.called():
        assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
    assert processes.failure(0.0) is None
    uncalled.close()


def test_an_error_of_the_first_ends_them(start: Start) -> None:
    before = psutil.Process().children()  # servers that other tests have started
    processes = start(stay)
    with pytest.raises(ZeroDivisionError), processes.called():
        raise ZeroDivisionError
    assert psutil.Process().children() == before


def test_one_that_is_killed_is_told_of_as_such(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_processes, "END_SECONDS", 1.0)  # the other one stays for a minute
    before = psutil.Process().children()
    processes = start(stay)
    with processes.called():
        killed = next(child for child in psutil.Process().children() if child not in before)
        os.kill(killed.pid, signal.SIGKILL)
        failure = processes.failure(60.0)
    assert failure is not None
    assert "was killed by SIGKILL" in failure.detail
    assert "trained together" in failure.detail


def test_one_that_fails_before_it_is_ready_says_why(start: Start) -> None:
    def work(rank: int, ready: Callable[[], None]) -> None:
        if rank == 2:
            raise StageFailed("There is no second GPU.")
        stay(rank, ready)

    message = r"Process 3 of the 3 .* failed\. There is no second GPU\."
    with pytest.raises(StageFailed, match=message), start(work).called():
        pytest.fail("one of them cannot come")


def test_a_reason_of_its_own_goes_before_what_followed_from_it(start: Start) -> None:
    def work(rank: int, ready: Callable[[], None]) -> None:
        ready()
        if rank == 1:
            raise ConnectionResetError
        time.sleep(0.3)
        raise StageFailed("The loss is nan.")

    processes = start(work)
    with processes.called():
        assert processes.failure(60.0) is not None
        time.sleep(1.0)
        failure = processes.failure(0.0)
    assert failure is not None
    assert failure.detail.endswith("failed. The loss is nan.")


def test_a_first_process_that_waits_in_vain_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_processes, "STUCK_SECONDS", 0.1)
    told: list[StageFailed] = []

    def work(rank: int, ready: Callable[[], None]) -> None:
        ready()
        raise MemoryError

    processes = start(work, count=2, on_stuck=told.append)
    with processes.called():
        deadline = time.monotonic() + 60
        while not told and time.monotonic() < deadline:
            time.sleep(0.02)
    assert told[0].detail == "Process 2 of the 2 that trained together failed. It broke with MemoryError."


def test_they_do_not_outlive_the_first(tmp_path: Path) -> None:
    read, write = os.pipe()
    first = os.fork()
    if first == 0:

        def work(rank: int, ready: Callable[[], None]) -> None:
            os.write(write, f"{os.getpid()}\n".encode())
            stay(rank, ready)

        with suppress(BaseException), RankProcesses(3, work, describe=broken, on_stuck=print).called():
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)
    os.waitpid(first, 0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        pids = [int(line) for line in pipe]  # to its end, which comes when they have ended: they could write to it
    assert len(pids) == 2


def test_a_batch_is_divided_among_as_many_as_divide_it() -> None:
    assert [most_ranks(wanted, batch_size=64, micro_batch_size=4) for wanted in (1, 2, 3, 5, 16, 20)] == [
        1,
        2,
        2,
        4,
        16,
        16,
    ]
    assert most_ranks(8, batch_size=4, micro_batch_size=4) == 1
