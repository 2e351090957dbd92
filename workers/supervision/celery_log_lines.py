"""Celery's own lines about a message tell which stage it names.

Celery hands what it fills a line's words with to whoever formats the record; the message's argument is the stage's id.
While a stage is run its own ids are bound and go first: a message wakes a worker up for whatever stage's turn it is.
"""

from __future__ import annotations

import re
from typing import Any

from structlog.typing import EventDict

from app.broker.messages import RUN_STAGE

_STAGE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def name_stage(_: Any, __: str, line: EventDict) -> EventDict:
    """A processor of structlog's: adds `stage_id` to the line of a record that is about a message."""
    message = getattr(line["_record"], "data", None)
    if isinstance(message, dict) and message.get("name") == RUN_STAGE:
        found = _STAGE.search(str(message.get("args")))
        if found is not None:
            line.setdefault("stage_id", found[0])
    return line
