"""Memory of this machine, and of a stage with all that it has started.

What counts as used is what the kernel cannot take back: anonymous pages, shared memory and what of both was swapped
out. Pages of mapped files do not count: a checkpoint of 140 GB may be read through a mapping on a machine with 64.
Pages that a fork shares with the server it came from count in part (`Pss` of /proc/PID/smaps_rollup), so a training in
eight processes is not charged eight times for the libraries that they share. To a stage's peak its own forks add only
what they have written: one that reads a config for a moment would double it. Outside Linux the resident set has to do.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

SHARE = 0.85  # of the machine, that its stages may have together unless a setting says otherwise
TREE_SECONDS = 0.5  # how often the processes of a stage are looked for
EXACT_COST = 10.0  # an exact count is made again after so many times the time that the last one took
_CGROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_own_limit = 0  # of this process, if it is a stage's: bytes; 0: none
_NO_LIMIT = 1 << 60  # cgroups of version 1 say "no limit" with a number
_ROUGH = ("RssAnon:", "RssShmem:", "VmSwap:")
_EXACT = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")
_WRITTEN = ("Private_Dirty:", "SwapPss:")


def machine_memory() -> int:
    """Bytes that the processes of this machine, or of this container, may have."""
    return min([psutil.virtual_memory().total, *_container_limits()])


def stage_limit(setting: int, *, slots: int) -> int:
    """Bytes that one stage may have: what is set, or its part of the machine's where that is 0."""
    return setting or int(machine_memory() * SHARE / slots)


def limit_this_process(limit: int) -> None:
    """This process is a stage's, and is ended by its guardian where it uses more than so many bytes (0: it is not)."""
    global _own_limit
    _own_limit = limit


def left() -> int:
    """Bytes that this process can still take: what the machine has free, and no more than its own limit leaves."""
    free = int(psutil.virtual_memory().available)
    if not _own_limit:
        return free
    return max(0, min(free, _own_limit - used([os.getpid(), *descendants(os.getpid())])))


def used(pids: Iterable[int]) -> int:
    """Bytes that these processes use together; those that have ended use nothing."""
    return sum(_sum_of(pid, "smaps_rollup", _EXACT) for pid in pids)


def descendants(pid: int) -> list[int]:
    """All that run under a process. On Linux at a cost that other processes of the machine have no part in."""
    if sys.platform != "linux":
        with suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children(recursive=True)]
        return []
    found = []
    with suppress(OSError):  # it ends meanwhile
        for thread in os.scandir(f"/proc/{pid}/task"):  # a child belongs to the thread that has started it
            with suppress(OSError):
                found += [int(child) for child in Path(thread.path, "children").read_text().split()]
    return [each for child in found for each in (child, *descendants(child))]


class TreeMeter:
    """Measures one stage's processes again and again, at little cost."""

    def __init__(self) -> None:
        """Of all that runs under this process, itself apart."""
        self.count = 0  # bytes, when it was last looked
        self.peak = 0  # the most that was seen
        self.pids: list[int] = []  # of the processes, the stage's first
        self._look_at = self._exact_at = 0.0  # when to do so next, by time.monotonic

    def exceeds(self, limit: int) -> bool:
        """Whether the processes use more than the limit now.

        Private pages are counted by the process first, which is quick and too much by what forks share; only where
        that exceeds the limit, or would be a new peak of several processes, are they counted page by page.
        """
        now = time.monotonic()
        if now >= self._look_at:
            self.pids = descendants(os.getpid())
            self._look_at = now + TREE_SECONDS
        counts = [_sum_of(pid, "status", _ROUGH) for pid in self.pids]
        count, several = sum(counts), sum(map(bool, counts)) > 1
        if count > limit or (several and count > self.peak):
            if now < self._exact_at:
                return False
            if count > limit:
                count = used(self.pids)
            else:  # the stage's process comes first, and what it has started after it
                count = counts[0] + sum(_sum_of(pid, "smaps_rollup", _WRITTEN) for pid in self.pids[1:])
            spent = time.monotonic() - now
            self._exact_at = now + EXACT_COST * spent
        self.count, self.peak = count, max(self.peak, count)
        return count > limit


def oom_kills() -> int:
    """How often the kernel has killed a process for memory, here or on this machine; 0 where it does not say."""
    count = 0
    for path in (*_container_files("memory.events"), *_container_files("memory.oom_control"), Path("/proc/vmstat")):
        with suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                name, _, number = line.partition(" ")
                if name == "oom_kill":
                    count += int(number)
    return count


def _sum_of(pid: int, name: str, fields: tuple[str, ...]) -> int:
    """The sum of these lines of a file of the process, in bytes."""
    if sys.platform != "linux":
        with suppress(psutil.Error):
            return int(psutil.Process(pid).memory_info().rss)
        return 0
    total = 0
    with suppress(OSError), Path(f"/proc/{pid}/{name}").open() as file:
        for line in file:
            if line.startswith(fields):
                total += int(line.split()[1]) * 1024
    return total


def _container_limits() -> Iterator[int]:
    for name in ("memory.max", "memory.limit_in_bytes"):
        for path in _container_files(name):
            with suppress(OSError, ValueError):  # "max": there is none here
                limit = int(path.read_text())
                if 0 < limit < _NO_LIMIT:
                    yield limit


def _container_files(name: str) -> Iterator[Path]:
    """The file of this process's control group, and of each above it, that this process can see."""
    with suppress(OSError):
        for line in _OWN_GROUPS.read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if controllers not in {"", "memory"}:
                continue
            root = _CGROUPS / controllers
            group = root / place.lstrip("/")
            yield from (folder / name for folder in (group, *group.parents) if folder.is_relative_to(root))
