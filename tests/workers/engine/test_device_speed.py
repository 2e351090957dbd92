"""How fast the device multiplies: work over the time of the best try, whatever the machine is."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from workers.engine import device_speed
from workers.engine.device_speed import measure_speed


def test_it_is_work_over_the_best_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_speed, "SIDE", {"cpu": 8})
    monkeypatch.setattr(device_speed, "WEIGHTS", 1 << 13)
    clock = ticks([0.001, 7, 2, 4, 0.001, 3, 5, 8])  # the first try of each does not count, however quick
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    found = measure_speed(torch.device("cpu"), torch.float32)
    assert found.flops == pytest.approx(2 * 8**3 / 2)
    assert found.read == pytest.approx(4 * (1 << 13) / 3)


def ticks(durations: list[float]) -> Iterator[float]:
    """The clock at the start and at the end of each piece of work."""
    now = 0.0
    for duration in durations:
        yield now
        now += duration
        yield now


def test_a_real_device_has_both() -> None:
    found = measure_speed(torch.device("cpu"), torch.float32)
    assert found.flops > 1e6
    assert found.read > 1e6
