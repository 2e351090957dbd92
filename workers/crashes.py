"""What a user reads when a stage process broke without a word: which signal, how much memory, what to do about it."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

from app.errors import StageFailed
from workers.forkserver import Exit

_CGROUP = Path("/sys/fs/cgroup")
_LESS_MEMORY = (
    "Lower the micro-batch size, the tokens per sample or the batch sizes of the benchmark, "
    "or use a worker with more memory."
)


def oom_kills() -> int:
    """How often the kernel has killed a process of this container for memory; 0 where it does not say."""
    with suppress(OSError, ValueError):
        for line in (_CGROUP / "memory.events").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    with suppress(OSError, ValueError):  # cgroups of version 1
        for line in (_CGROUP / "memory" / "memory.oom_control").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def describe(exit_: Exit, *, oom_killed: bool) -> StageFailed:
    """The problem of a process that ended with neither result nor error.

    Args:
        oom_killed: whether the kernel's count of processes killed for memory rose while it ran.
    """
    used = f" It used up to {exit_.max_rss / (1 << 30):.1f} GiB of memory." if exit_.max_rss else ""
    if exit_.code is None:
        return StageFailed("The stage process and its guardian were killed, or could not be started.")
    if exit_.code >= 0:
        return StageFailed(f"The stage process ended with exit status {exit_.code} and no result.{used}")
    try:
        name = signal.Signals(-exit_.code).name
    except ValueError:
        name = f"signal {-exit_.code}"
    if exit_.code == -signal.SIGKILL:
        if oom_killed:
            return StageFailed(f"The stage ran out of memory and the system killed it (SIGKILL).{used} {_LESS_MEMORY}")
        return StageFailed(
            f"The stage process was killed (SIGKILL), which most often means that the system ran out of memory.{used} "
            f"{_LESS_MEMORY}"
        )
    return StageFailed(f"The stage process crashed ({name}).{used}")


def time_limit(seconds: float) -> StageFailed:
    """The problem of a process that ran for too long."""
    return StageFailed(
        f"The stage ran longer than the limit of {seconds:g} seconds and was stopped. Ask for less work in one stage, "
        "or raise SECATEUR_STAGE_TIME_LIMIT_SECONDS on the workers; a retry goes on from the last checkpoint."
    )


def disk_full(where: str) -> StageFailed:
    """The problem of a disk without space."""
    return StageFailed(
        f"There is no space left in {where}; nothing was published. Free space there, then retry the job: "
        "it goes on from where this stage stopped."
    )
