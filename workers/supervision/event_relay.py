"""From the pipe of a stage process to events: reads lines, and holds what is to be written to the database.

A stage may say more than anybody wants to read, so progress is thinned out to one event in half a second, of which the
last is always kept, and what is read faster than the database takes it stays in the pipe, where the stage waits for it.
What PostgreSQL cannot hold (NUL, not-a-number) is replaced, and passwords are hidden.
"""

from __future__ import annotations

import logging
import math
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from app.db.claims import Claim
from app.db.events import EventType, Level, NewEvent
from secateur.contract.numbers import size
from secateur.contract.protocol import (
    DeviceUse,
    ErrorEvent,
    LogEvent,
    MetricsEvent,
    NewStage,
    PartEvent,
    ProgressEvent,
    ResultEvent,
    StagesEvent,
    TextEvent,
    stage_event,
)
from secateur.contract.shown import SHOWN_CHARACTERS, shortened
from secateur.contract.use import StageUse
from secateur.masking import redact, redact_all
from workers.machine.use import Use
from workers.supervision.stage_parts import PartSpans

logger = logging.getLogger("workers.stage")  # what a stage's process says, in its worker's log

PROGRESS_SECONDS = 0.5
FLUSH_SECONDS = 0.25
MAX_PENDING = 500  # events; more stay in the pipe
MAX_LINE = 64 << 20  # bytes; a report of any size is far below
MAX_MESSAGE = 20_000  # characters


@dataclass(frozen=True)
class StageResult:
    """What a stage process that has succeeded hands on."""

    data: dict[str, Any]
    adds: tuple[NewStage, ...] = ()  # stages that the job gets with it


class EventRelay:
    """The events of one run of a stage process."""

    def __init__(self, claim: Claim, descriptor: int) -> None:
        self.result: StageResult | None = None
        self.problem: dict[str, Any] | None = None
        self.ended = False  # the pipe was closed by the other side
        self.processes: Use | None = None  # what its processes use now; whoever watches them says so
        self._adds: tuple[NewStage, ...] = ()
        self._claim = claim
        self._descriptor = descriptor
        self._buffer = b""
        self._pending: list[NewEvent] = []
        self._progress: ProgressEvent | None = None  # the last one, where it is not among the events
        self._told_progress = -math.inf
        self._last: dict[str, Any] | None = None  # progress for the stage's row
        self._flushed = time.monotonic()
        self._device: DeviceUse | None = None  # as the stage has last told it
        self._device_peak = 0
        self._parts = PartSpans()

    @property
    def full(self) -> bool:
        """Whether to leave the pipe alone until events are written."""
        return len(self._pending) >= MAX_PENDING

    def read(self) -> None:
        """Take what the pipe holds, without waiting."""
        while not self.full:
            try:
                data = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                self.ended = True
                if self._buffer:
                    self._take(self._buffer)
                    self._buffer = b""
                return
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            for line in lines:
                self._take(line)
            if len(self._buffer) > MAX_LINE:
                self._buffer = b""
                self.log(f"a line of the stage's events is longer than {size(MAX_LINE)} and was dropped", level="error")

    def due(self) -> bool:
        """Whether it is time to write events."""
        return self.full or (bool(self._pending) and time.monotonic() - self._flushed >= FLUSH_SECONDS)

    @property
    def use(self) -> StageUse | None:
        """What the stage uses of its machine now; None before that is known."""
        if self.processes is None:
            return None
        device = self._device
        return StageUse(
            memory_bytes=self.processes.memory,
            peak_memory_bytes=self.processes.peak,
            cores=self.processes.cores,
            device_memory_bytes=device.memory if device else None,
            peak_device_memory_bytes=self._device_peak if device else None,
            device_busy=device.busy if device else None,
        )

    @property
    def pending(self) -> bool:
        """Whether there are events to write."""
        return bool(self._pending)

    def finish(self) -> None:
        """The process has ended: the last progress is told, even if it came soon after the one before."""
        if self._progress is not None:
            self._tell_progress(self._progress)
        self._parts.close()

    def batch(self) -> tuple[list[NewEvent], dict[str, Any] | None]:
        """What is to be written next: events, and the progress for the stage's row. `written` takes them away."""
        return list(self._pending), self._last

    def written(self, count: int) -> None:
        """The first `count` of the pending events are committed."""
        del self._pending[:count]
        self._flushed = time.monotonic()

    def log(self, message: str, *, level: Level = "info") -> None:
        """A line of the stage, or of its supervisor's own: for the job's log, and for the worker's."""
        message = shortened(redact(message), MAX_MESSAGE)
        logger.log(logging.getLevelNamesMapping()[level.upper()], "%s", message)
        self._add("log", {"message": message}, level)

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            event = stage_event.validate_json(line)
        except ValidationError:
            written = shortened(line.decode(errors="replace"), SHOWN_CHARACTERS)
            self.log(f"the stage wrote a line that is no event: {written}", level="warning")
            return
        match event:
            case ProgressEvent():
                self._progress = event
                self._last = event.model_dump(exclude={"type", "device"})
                if event.device is not None:
                    self._device, self._device_peak = event.device, max(self._device_peak, event.device.peak)
                if time.monotonic() - self._told_progress >= PROGRESS_SECONDS or event.done >= event.total:
                    self._tell_progress(event)
            case LogEvent():
                self.log(event.message, level=event.level)
            case MetricsEvent():
                self._add("metrics", event.data)
            case TextEvent():
                self._add("text", event.model_dump(exclude={"type"}))
            case PartEvent():
                self._parts.take(event)
            case ResultEvent():
                self.result = StageResult(clean(event.data), self._adds)
            case StagesEvent():
                self._adds += event.stages
            case ErrorEvent():
                self.problem = redact_all(clean(event.problem))

    def _tell_progress(self, event: ProgressEvent) -> None:
        self._progress, self._told_progress = None, time.monotonic()
        use = {} if self.use is None else {"use": self.use.model_dump()}
        self._add("progress", event.model_dump(exclude={"type", "device"}) | use)

    def _add(self, type_: EventType, data: dict[str, Any], level: Level = "info") -> None:
        event = NewEvent(
            type_, clean(data), level, stage=self._claim.key, attempt=self._claim.attempt, created_at=datetime.now(UTC)
        )
        self._pending.append(event)


def clean(value: Any) -> Any:
    """The value as jsonb can hold it: no NUL, and null for what is no number."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd")
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {clean(key): clean(item) for key, item in value.items()}
        case list():
            return [clean(item) for item in value]
        case _:
            return value
