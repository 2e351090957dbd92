"""The Celery tasks: thin, safe to run twice, and given nothing but ids."""

from __future__ import annotations

import logging
from collections.abc import Callable

from structlog.contextvars import bind_contextvars, clear_contextvars

from workers.supervision.supervisor import Supervisor

logger = logging.getLogger(__name__)


def make_run_stage(supervisor: Callable[[], Supervisor]) -> Callable[[str], None]:
    """The task that a message runs, on the worker's supervisor."""

    def run_stage(stage_id: str) -> None:
        """Run the stage whose turn it is, be it this one or another: a message only says that there is work."""
        clear_contextvars()  # of the stage that this thread ran before; it stood in Celery's last line about it, too
        bind_contextvars(stage_id=stage_id)
        logger.debug("woken up")
        supervisor().run_next()

    return run_stage
