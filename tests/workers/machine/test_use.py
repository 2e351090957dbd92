"""What a stage's processes use now."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from workers.machine import use
from workers.machine.memory import TreeMeter
from workers.machine.use import UseMeter, processor_seconds


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_processor_time_is_that_of_the_processes_and_of_the_children_they_waited_for() -> None:
    before = processor_seconds([os.getpid()])
    burn(0.05)
    after = processor_seconds([os.getpid()])
    assert after - before >= 0.03  # the kernel counts in hundredths
    subprocess.run([sys.executable, "-S", "-c", "for i in range(1_000_000): pass"], check=True)
    assert processor_seconds([os.getpid()]) > after
    assert processor_seconds([2**22 + 1]) == 0  # no such process


def test_cores_are_told_from_the_second_measurement_on(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = TreeMeter()
    memory.pids, memory.count, memory.peak = [os.getpid()], 600, 900
    meter = UseMeter(memory)
    first = meter.look()
    assert first is not None
    assert (first.memory, first.peak, first.cores) == (600, 900, None)
    assert meter.look() is None  # just looked at
    monkeypatch.setattr(use, "EVERY_SECONDS", 0.0)
    burn(0.05)
    second = meter.look()
    assert second is not None
    assert second.cores is not None
    assert second.cores > 0
    memory.pids = []  # all have ended
    last = meter.look()
    assert last is not None
    assert last.cores == 0
