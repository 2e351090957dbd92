"""Stopwatches for one generation: the processor's clock, or events in a GPU's own stream."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of one generation."""

    first: float  # until the first token
    total: float


class Clock(Protocol):
    """Told three moments, then asked for the times between them."""

    def start(self) -> None: ...

    def first(self) -> None: ...

    def stop(self) -> None: ...

    def read(self) -> Timing: ...


class ProcessorClock:
    """Wall time on a CPU, where a call returns when its work is done."""

    def __init__(self) -> None:
        self._moments = [0.0, 0.0, 0.0]

    def start(self) -> None:
        self._moments[0] = time.perf_counter()

    def first(self) -> None:
        self._moments[1] = time.perf_counter()

    def stop(self) -> None:
        self._moments[2] = time.perf_counter()

    def read(self) -> Timing:
        start, first, stop = self._moments
        return Timing(first - start, stop - start)


class CudaClock:
    """Events recorded between the kernels, so that timing makes no kernel wait."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        event: Any = torch.cuda.Event  # no annotations upstream
        self._events = [event(enable_timing=True) for _ in range(3)]

    def start(self) -> None:
        torch.cuda.synchronize(self._device)
        self._events[0].record()

    def first(self) -> None:
        self._events[1].record()

    def stop(self) -> None:
        self._events[2].record()

    def read(self) -> Timing:
        torch.cuda.synchronize(self._device)
        start, first, stop = self._events
        return Timing(start.elapsed_time(first) / 1000, start.elapsed_time(stop) / 1000)


def clock_for(device: torch.device) -> Clock:
    """The stopwatch that fits the device."""
    return CudaClock(device) if device.type == "cuda" else ProcessorClock()
