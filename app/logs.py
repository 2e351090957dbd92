"""What a process of the service logs: one line for each record, that tells when, who, and on whose behalf.

Every module logs with the standard library's `logging`, as libraries do, so one chain of structlog renders them all: as
JSON, or in colours on a terminal. Whatever is bound in the context (`structlog.contextvars`: `request_id` while a
request is answered, `job_id`, `stage` and `attempt` while a stage is run) stands in every line that is written
meanwhile, the traceback of a defect above all: the answer to the client tells the request's id and nothing else.
Secrets are hidden in all of it.

It depends on nothing else of the service, so that a stage's process uses it too.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

from secateur import masking

LogFormat = Literal["auto", "json", "console"]

logger = logging.getLogger("app")

_FIRST = ("time", "level", "logger", "message", "request_id", "job_id", "stage", "attempt")
_OWN = frozenset({"time", "level", "method", "job_id", "stage", "stage_id", "trace_id"})  # no text of anybody's
_EXTRAS = ("method", "path", "status", "milliseconds")  # of the line that tells of a request
_TALKATIVE = ("alembic", "aiobotocore", "botocore", "httpx")  # a line and more for each question whether all is well


def formatter(form: LogFormat, *, terminal: bool, more: Sequence[Processor] = ()) -> logging.Formatter:
    """One line, secrets hidden: JSON, or `console` for people, in colours on a terminal. `auto` goes by that, too.

    Args:
        more: processors that add to a line what they know of its record.
    """
    for_people = form == "console" or (form == "auto" and terminal)
    renderer: Processor = structlog.processors.JSONRenderer()
    if for_people:
        renderer = structlog.dev.ConsoleRenderer(
            colors=terminal,
            event_key="message",
            timestamp_key="time",
            exception_formatter=structlog.dev.plain_traceback,
        )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(_EXTRAS),
            *more,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.EventRenamer("message"),
            structlog.processors.format_exc_info,
            _masked_and_in_order,
            renderer,
        ],
    )


def set_up(
    level: str,
    *,
    form: LogFormat = "auto",
    secrets: Iterable[str] = (),
    urls: Iterable[str | None] = (),
    more: Sequence[Processor] = (),
) -> None:
    """Log to standard error, from all loggers, with these secrets and the environment's hidden.

    Errors that nobody caught, in threads too, and warnings go the same way; and what is printed to standard error
    besides is masked.
    """
    masking.learn(secrets)
    for url in urls:
        if url is not None:
            masking.learn_url(url)
    _write_to(sys.stderr, formatter(form, terminal=sys.stderr.isatty(), more=more), level)
    masking.mask_errors()
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def take_over() -> None:
    """What libraries print through handlers of their own goes the way of all records from now on."""
    for library in logging.root.manager.loggerDict.values():
        if isinstance(library, logging.Logger):
            printing = [handler for handler in library.handlers if type(handler) is logging.StreamHandler]
            for handler in printing:
                library.removeHandler(handler)
                library.propagate = True


def is_own(handler: logging.Handler) -> bool:
    """Whether `set_up` made it."""
    return isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter)


def to_a_file() -> None:
    """Standard error of this process, which is set up, has become a file: for people, and without colours."""
    for handler in filter(is_own, logging.getLogger().handlers):
        handler.setFormatter(formatter("console", terminal=False))


def _write_to(stream: TextIO, form: logging.Formatter, level: str) -> None:
    # beneath the mask of the stream: a line is masked before it becomes JSON, which must stay JSON
    handler = logging.StreamHandler(stream.inner if isinstance(stream, masking.MaskedStream) else stream)
    handler.setFormatter(form)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for library in _TALKATIVE:
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def _masked_and_in_order(_: Any, __: str, line: EventDict) -> EventDict:
    """What every line has comes first; in texts, and in what becomes one, secrets are hidden."""
    shown = {name: value if name in _OWN else _masked(value) for name, value in line.items()}
    return {**{name: shown[name] for name in _FIRST if name in shown}, **shown}


def _masked(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return masking.redact_all(value) if isinstance(value, str | dict | list) else masking.redact(str(value))


def _uncaught(*info: Any) -> None:
    if issubclass(info[0], KeyboardInterrupt):
        return
    logger.critical("an error that nobody caught", exc_info=info)


def _uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if not issubclass(arguments.exc_type, SystemExit):
        name = arguments.thread.name if arguments.thread else "?"
        info = (arguments.exc_type, arguments.exc_value or arguments.exc_type(), arguments.exc_traceback)
        logger.critical("an error that nobody caught, in thread %s", name, exc_info=info)
