"""The stage process: a JSON spec in, JSON-lines events out.

`python -m workers.stage SPEC.json` runs a stage by hand and prints its events; the supervisor calls `main` in a
process of its own, with a pipe. Whatever a library prints must not end up between the events, so by hand the real
standard output is set aside for them and file descriptor 1 becomes standard error; warnings and log records of
libraries become log events. SIGTERM keeps its default action, so the kernel ends the process at once, even in the
middle of a matrix product: files are written under a temporary name, so there is nothing to tidy up.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import os
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from app import logs
from secateur import masking
from secateur.contract.errors import InvalidInput, ServiceError, StageFailed
from secateur.contract.protocol import ErrorEvent, LogEvent, ProgressEvent, ResultEvent, StageEvent, StageSpec
from secateur.contract.shown import shortened
from secateur.contract.validation_errors import field_errors
from secateur.whole_files import write_whole
from workers.engine.device_use import device_use
from workers.machine import memory
from workers.probe import main as probe
from workers.stages.context import StageContext
from workers.stages.failure import describe_failure

__all__ = ["main", "probe"]  # what a worker has its fork server run

PROGRESS_SECONDS = 0.2  # progress closer together than this is dropped, except the last
DEVICE_SECONDS = 1.0  # between two looks at the GPU
MAX_MESSAGE = 20_000  # characters of a log event
EXIT_FAILED = 1
EXIT_ORPHANED = 3  # nobody reads the events any more


class EventPipe:
    """Writes events to a file descriptor, a whole line at a time, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._last_progress = 0.0
        self._unit = ""
        self._looked_at = -math.inf

    def emit(self, event: StageEvent) -> None:
        """Write one event. Ends the process where the reader is gone: its work would have no owner.

        The events of a process that the stage has forked, to train with it, are those of the stage too, and dropped.
        """
        if os.getpid() != self._owner:
            return
        if isinstance(event, ProgressEvent):
            now = time.monotonic()
            same = event.unit == self._unit and event.done < event.total
            if same and now - self._last_progress < PROGRESS_SECONDS:
                return
            self._last_progress, self._unit = now, event.unit
            if now - self._looked_at >= DEVICE_SECONDS:
                self._looked_at = now
                event = event.model_copy(update={"device": device_use()})
        if isinstance(event, LogEvent):
            event = LogEvent(level=event.level, message=masking.redact(event.message))
        elif isinstance(event, ErrorEvent):
            event = ErrorEvent(problem=masking.redact_all(event.problem))
        line = event.model_dump_json().encode() + b"\n"
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except BrokenPipeError:
                os._exit(EXIT_ORPHANED)


class _EventHandler(logging.Handler):
    """Turns the log records of libraries into log events."""

    def __init__(self, pipe: EventPipe) -> None:
        super().__init__(level=logging.WARNING)
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        level: Literal["warning", "error"] = "error" if record.levelno >= logging.ERROR else "warning"
        message = f"{record.name}: {record.getMessage()}"
        if record.exc_info:
            message += "\n" + "".join(traceback.format_exception(*record.exc_info))
        self._pipe.emit(LogEvent(level=level, message=shortened(message, MAX_MESSAGE)))


def main(spec_path: Path, event_fd: int | None = None) -> int:
    """Run the stage that the file `spec_path` describes; returns the exit status.

    Args:
        event_fd: where events go; standard output if absent, which then carries nothing else.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    pipe = EventPipe(_own_stdout() if event_fd is None else event_fd)
    try:
        with _quiet_libraries(pipe):
            result = _run(_read_spec(Path(spec_path)), pipe)
    except ServiceError as error:
        pipe.emit(ErrorEvent(problem=error.to_problem()))
        return EXIT_FAILED
    except BaseException as error:
        pipe.emit(LogEvent(level="error", message=traceback.format_exc()[-MAX_MESSAGE:]))
        pipe.emit(ErrorEvent(problem=describe_failure(error).to_problem()))
        return EXIT_FAILED
    pipe.emit(ResultEvent(data=result.model_dump(mode="json")))
    return 0


def _read_spec(path: Path) -> StageSpec:
    try:
        return StageSpec.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StageFailed(f"The stage's spec {path.name} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        fields = field_errors(StageSpec, error.errors(include_url=False))
        raise InvalidInput(f"{path.name} is not a stage's spec.", errors=fields) from error


def _run(stage: StageSpec, pipe: EventPipe) -> BaseModel:
    memory.limit_this_process(stage.runtime.memory)
    context = StageContext(stage, pipe.emit)
    shutil.rmtree(context.out, ignore_errors=True)  # half-written output of a killed attempt
    context.out.mkdir(parents=True)
    module = importlib.import_module(stage.row.module)  # nothing needs all of them
    result: BaseModel = module.run(context)
    write_whole(context.out / stage.row.file, result.model_dump_json(indent=2).encode())
    return result


def _own_stdout() -> int:
    """A private descriptor of standard output; what others print goes to standard error from now on."""
    sys.stdout.flush()
    private = os.dup(1)
    os.dup2(2, 1)
    return private


@contextmanager
def _quiet_libraries(pipe: EventPipe) -> Iterator[None]:
    """No progress bars; warnings and log records as events, until the context ends."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "warning")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    handler = _EventHandler(pipe)
    loggers = [logging.getLogger()]
    printing = [own for own in loggers[0].handlers if logs.is_own(own)]  # what goes to the pipe is not printed as well
    seen: set[str] = set()

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        text = f"{category.__name__}: {message}"
        if text not in seen:
            seen.add(text)
            pipe.emit(LogEvent(level="debug", message=shortened(text, MAX_MESSAGE)))

    shown_before = warnings.showwarning
    warnings.showwarning = show  # type: ignore[assignment]  # the last two parameters are never given
    if "transformers" in sys.modules:  # in a fork server the library was imported before the variables were set
        from transformers.utils import logging as hf_logging

        hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # no annotations upstream
        libraries = map(logging.getLogger, ("transformers", "datasets", "peft", "accelerate"))
        loggers += [library for library in libraries if not library.propagate]
    for logger in loggers:
        logger.addHandler(handler)
    for own in printing:
        loggers[0].removeHandler(own)
    try:
        yield
    finally:
        for own in printing:
            loggers[0].addHandler(own)
        for logger in loggers:
            logger.removeHandler(handler)
        warnings.showwarning = shown_before


def _cli() -> int:
    parser = argparse.ArgumentParser(prog="python -m workers.stage", description="Run one stage of a job.")
    parser.add_argument("spec", type=Path, help="JSON file with a StageSpec (secateur/contract/protocol.py)")
    parser.add_argument("--event-fd", type=int, default=None, help="descriptor for events; default: standard output")
    arguments = parser.parse_args()
    logs.set_up("info")
    return main(arguments.spec, arguments.event_fd)


if __name__ == "__main__":
    sys.exit(_cli())
