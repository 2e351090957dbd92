"""What a process of the service logs: one form of line for all, secrets hidden, and the request that it belongs to.

A request's id is in a context variable, which follows the request into threads and tasks, so that every record that
was made on its behalf carries it, the traceback of a defect above all: the answer to the client tells that id and
nothing else.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from app import masking
from app.masking import redact

__all__ = ["Redacting", "redact", "request_id", "set_up"]

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

logger = logging.getLogger("app")

_TALKATIVE = ("alembic", "aiobotocore", "botocore", "httpx")  # a line and more for each question whether all is well


class Redacting(logging.Formatter):
    """Time, level, logger, the request if there is one, message, traceback; with secrets hidden in all of it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(request)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        of = getattr(record, "request_id", None) or request_id.get()
        record.request = f" [request {of}]" if of else ""
        return redact(super().format(record))


def set_up(level: str, *, secrets: Iterable[str] = (), urls: Iterable[str | None] = ()) -> None:
    """Log to standard error in this form, from all loggers, with these secrets and the environment's hidden.

    Errors that nobody caught, in threads too, and warnings go the same way.
    """
    masking.learn_environment(os.environ)
    masking.learn(secrets)
    for url in urls:
        if url is not None:
            masking.learn_url(url)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redacting())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for library in _TALKATIVE:
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _uncaught(*info: Any) -> None:
    if issubclass(info[0], KeyboardInterrupt):
        return
    logger.critical("an error that nobody caught", exc_info=info)


def _uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if not issubclass(arguments.exc_type, SystemExit):
        name = arguments.thread.name if arguments.thread else "?"
        info = (arguments.exc_type, arguments.exc_value or arguments.exc_type(), arguments.exc_traceback)
        logger.critical("an error that nobody caught, in thread %s", name, exc_info=info)
