"""What a user reads of a crash."""

from __future__ import annotations

import signal

import pytest

from workers.crashes import describe, disk_full, oom_kills, time_limit
from workers.forkserver import Exit


@pytest.mark.parametrize(
    ("exit_", "oom_killed", "expected"),
    [
        (Exit(-signal.SIGKILL, "ended", 3 << 30), True, ["ran out of memory", "3.0 GiB", "micro-batch"]),
        (Exit(-signal.SIGKILL, "ended", 1 << 30), False, ["SIGKILL", "most often", "1.0 GiB"]),
        (Exit(-signal.SIGSEGV, "ended"), False, ["crashed (SIGSEGV)"]),
        (Exit(-64, "ended"), False, ["SIGRTMAX"]),
        (Exit(-99, "ended"), False, ["signal 99"]),
        (Exit(70, "ended"), False, ["exit status 70 and no result"]),
        (Exit(None, "lost"), False, ["could not be started"]),
    ],
    ids=str,
)
def test_crashes(exit_: Exit, oom_killed: bool, expected: list[str]) -> None:
    detail = describe(exit_, oom_killed=oom_killed).detail
    for words in expected:
        assert words in detail


def test_other_problems_say_what_to_do() -> None:
    assert "SECATEUR_STAGE_TIME_LIMIT_SECONDS" in time_limit(60).detail
    assert "Free space" in disk_full("the store").detail


def test_the_kernels_count_can_be_read_or_is_nothing() -> None:
    assert oom_kills() >= 0
