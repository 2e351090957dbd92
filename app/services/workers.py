"""The workers with what they run: who would take a stage, and who has not been heard of."""

from __future__ import annotations

from typing import Literal

from sqlalchemy.orm import Session

from app.db import workers as rows
from app.db.tables.workers import Worker as Row
from secateur.schemas.workers import RunningStage, Worker, WorkerList


def list_workers(session: Session) -> WorkerList:
    """All that are up, or were until lately, by name."""
    held = rows.held(session)
    found = [_shown(row, up, [one for one in held if one.worker == row.name]) for row, up in rows.all_of(session)]
    return WorkerList(data=found)


def _shown(row: Row, up: bool, running: list[rows.Held]) -> Worker:
    state: Literal["up", "idle", "lost"] = "lost" if not up else "up" if row.device is not None else "idle"
    return Worker.model_validate(
        {
            **{name: getattr(row, name) for name in Worker.model_fields if hasattr(row, name)},
            "state": state,
            "device_memory_bytes": row.device_memory,
            "stage_memory_bytes": row.stage_memory,
            "running": [RunningStage.model_validate(stage) for stage in running] if up else [],
        }
    )
