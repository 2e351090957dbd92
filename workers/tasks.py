"""The Celery tasks: thin, safe to run twice, and given nothing but ids."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from workers.supervisor import Supervisor


def make_run_stage(supervisor: Callable[[], Supervisor]) -> Callable[[str], None]:
    """The task that a message about a stage runs, on the worker's supervisor."""

    def run_stage(stage_id: str) -> None:
        """Run the stage if it waits for a worker; a message that comes twice or late does nothing."""
        supervisor().run_stage(UUID(stage_id))

    return run_stage
