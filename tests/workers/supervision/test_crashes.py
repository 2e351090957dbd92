"""What a user reads of a crash."""

from __future__ import annotations

import signal

import pytest

from workers.launch.fork_server import Exit
from workers.supervision.crashes import describe, disk_full, out_of_memory, time_limit

GIB = 1 << 30


@pytest.mark.parametrize(
    ("exit_", "expected"),
    [
        (Exit(-signal.SIGKILL, "ended", 0, 1 << 30), ["SIGKILL", "If that was for its memory: lower", "1.07 GB"]),
        (Exit(-signal.SIGSEGV, "ended"), ["crashed (SIGSEGV)"]),
        (Exit(-64, "ended"), ["SIGRTMAX"]),
        (Exit(-99, "ended"), ["signal 99"]),
        (Exit(70, "ended"), ["exit status 70 and no result"]),
        (Exit(None, "lost"), ["could not be started"]),
    ],
    ids=str,
)
def test_crashes(exit_: Exit, expected: list[str]) -> None:
    detail = describe(exit_).detail
    for words in expected:
        assert words in detail


@pytest.mark.parametrize(
    ("exit_", "expected"),
    [
        (
            Exit(-signal.SIGKILL, "memory", 0, 5 * GIB),
            ["used 5.37 GB;", "limit of a stage is 4.29 GB", "SECATEUR_STAGE_MEMORY_BYTES"],
        ),
        (Exit(-signal.SIGKILL, "ended", 0, 3 * GIB), ["the system killed it", "used 3.22 GB when", "4.29 GB was more"]),
        (Exit(-signal.SIGKILL, "ended"), ["the system killed it", "not known"]),
    ],
    ids=str,
)
def test_out_of_memory(exit_: Exit, expected: list[str]) -> None:
    detail = out_of_memory(exit_, limit=4 * GIB).detail
    for words in [*expected, "ran out of memory", "not tried again", "micro-batch"]:
        assert words in detail


def test_other_problems_say_what_to_do() -> None:
    assert "SECATEUR_STAGE_TIME_LIMIT_SECONDS" in time_limit(60).detail
    assert "Free space" in disk_full("the store").detail
