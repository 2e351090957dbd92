"""The worker's device: tried out before the worker takes stages, and again when a stage says that it failed.

A worker whose device is broken would take one stage after the other and fail each within a second, faster than all
others together. So it takes none until a probe (`workers/probe.py`), a process of its own, has computed
something. A device that has failed is tried again every so often: drivers are mended while workers run.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from app.settings import Settings
from secateur.contract.protocol import WorkingDevice
from workers.launch.fork_server import Exit, ForkServer, StageProcess
from workers.launch.guardian import lease_clock
from workers.machine.memory import stage_limit
from workers.machine.processor import threads_of_a_stage

logger = logging.getLogger(__name__)

PROBE_SECONDS = 300.0  # for the fork server's imports, and a driver that takes its time
AGAIN_SECONDS = 60.0  # between the probes of a device that failed
TICK_SECONDS = 0.02
LONGEST_LOG = 2000  # characters of what the probe printed


class WorkerDevice(Protocol):
    """What a supervisor asks of the device."""

    @property
    def working(self) -> WorkingDevice | None:
        """What stages compute on; None while no stage is to be taken."""

    @property
    def problem(self) -> str | None:
        """Why it does not work, where that is known."""

    def doubt(self) -> bool:
        """A stage has failed on it: try it out again, and say whether it works."""


@dataclass(frozen=True)
class SoundDevice:
    """A device that always works, for tests."""

    working: WorkingDevice = field(default_factory=lambda: WorkingDevice(setting="cpu", kind="cpu", dtype="float32"))
    problem: None = None

    def doubt(self) -> bool:
        return True


class ProbedDevice(threading.Thread):
    """The device of one worker."""

    def __init__(self, settings: Settings, forkserver: ForkServer, *, on_change: Callable[[bool], object]) -> None:
        """`on_change` is told whether the worker can take stages, whenever that may have changed."""
        super().__init__(name="device", daemon=True)
        self.working: WorkingDevice | None = None
        self.problem: str | None = None  # why it does not work, where that is known
        self._settings, self._forkserver, self._on_change = settings, forkserver, on_change
        self._lock = threading.Lock()
        self._done, self._broken = threading.Event(), threading.Event()

    def run(self) -> None:
        """Try the device out, and again and again while it does not work, until `stop`."""
        self.doubt()
        while not self._done.is_set():
            self._broken.wait()
            if not self._done.wait(AGAIN_SECONDS):
                self.doubt()

    def stop(self) -> None:
        """No more probes."""
        self._done.set()
        self._broken.set()

    def doubt(self) -> bool:
        with self._lock:
            found = self._probe()
            if self._done.is_set():
                return False
            if isinstance(found, WorkingDevice):
                self.working, self.problem = found, None
                self._broken.clear()
                logger.info("the device works: %s, computing in %s", found.kind, found.dtype)
            else:
                self.working, self.problem = None, found
                self._broken.set()
                self._forkserver.stop()  # should the fault be the server's, the next probe has another one
                logger.error("this worker takes no stages, since its device does not work: %s", found)
            self._on_change(self.working is not None)
            return self.working is not None

    def _probe(self) -> WorkingDevice | str:
        """What a process of its own has found, or what is wrong."""
        with tempfile.TemporaryDirectory(prefix="secateur-probe-") as folder:
            spec, log = Path(folder, "spec.json"), Path(folder, "log")
            threads = threads_of_a_stage(self._settings.threads, slots=self._settings.concurrency)
            spec.write_text(json.dumps({"device": self._settings.device, "threads": threads}))
            memory = stage_limit(self._settings.stage_memory_bytes, slots=self._settings.concurrency)
            until = lease_clock() + PROBE_SECONDS
            process = self._forkserver.start(spec, log=log, until=until, memory=memory, function="probe")
            try:
                exit_ = self._watch(process)
                answer = b""
                with suppress(BlockingIOError):
                    answer = os.read(process.events, 1 << 16)
            finally:
                process.close()
            printed = log.read_text(errors="replace").strip()[-LONGEST_LOG:] if log.exists() else ""
        if printed:
            logger.warning("trying the device out: %s", printed)
        if not answer:
            return f"{_ended(exit_)} {printed}".strip()
        told = json.loads(answer)
        return WorkingDevice.model_validate(told["working"]) if "working" in told else str(told["problem"])

    def _watch(self, process: StageProcess) -> Exit:
        while (exit_ := process.poll()) is None:
            if self._done.is_set():
                process.kill()
            time.sleep(TICK_SECONDS)
        return exit_


def _ended(exit_: Exit) -> str:
    """The words for a probe that has ended without an answer."""
    if exit_.reason == "lease":
        return f"It did not answer within {PROBE_SECONDS:g} seconds."
    if exit_.code is None:
        return "No process could be started to try it out; the worker's log says why."
    how = f"by signal {-exit_.code}" if exit_.code < 0 else f"with exit status {exit_.code}"
    return f"The process that tried it out ended {how} and no answer."
