"""What a stage's processes use now: memory, and how many cores they keep busy."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from workers.machine.memory import TreeMeter

EVERY_SECONDS = 1.0  # between two measurements; who shows them asks no more often


@dataclass(frozen=True)
class Use:
    """Of all of a stage's processes together."""

    memory: int  # bytes, as `memory.py` counts them
    peak: int  # the most so far
    cores: float | None  # kept busy since the measurement before; None at the first

    def as_json(self) -> dict[str, float | None]:
        return asdict(self)


class UseMeter:
    """Says every now and then what the processes use whose memory `memory` measures."""

    def __init__(self, memory: TreeMeter) -> None:
        self._memory = memory
        self._seconds: float | None = None  # of the processor, up to the last measurement
        self._measured_at = time.monotonic()

    def look(self) -> Use | None:
        """What they use now; None where it was looked at just before."""
        now = time.monotonic()
        passed = now - self._measured_at
        if self._seconds is not None and passed < EVERY_SECONDS:
            return None
        before, self._seconds, self._measured_at = self._seconds, processor_seconds(self._memory.pids), now
        cores = None if before is None else max(0.0, self._seconds - before) / passed  # less, where a process has ended
        return Use(self._memory.count, self._memory.peak, cores)


def processor_seconds(pids: Iterable[int]) -> float:
    """Processor time that these processes have taken so far, with that of the children that they have waited for."""
    return sum(map(_processor_seconds, pids))


def _processor_seconds(pid: int) -> float:
    if sys.platform != "linux":
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            return float(times.user + times.system)
        return 0.0
    with suppress(OSError):  # it has ended
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # utime, stime, cutime, cstime: man 5 proc
    return 0.0
