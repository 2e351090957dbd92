"""Workers as the API shows them."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import Field

from secateur.schemas.base import Body, Timestamp


class RunningStage(Body):
    """A stage in a worker's hands."""

    job_id: UUID
    key: str
    kind: str


class Worker(Body):
    """One process that runs stages."""

    id: UUID = Field(description="Another one after each start.")
    name: str = Field(description="Host and process.")
    host: str
    state: Literal["up", "idle", "lost"] = Field(
        description="`up`: it takes stages. `idle`: it does not, since its device does not work, or was not tried yet. "
        "`lost`: it has not been heard of in time; its stages go to others."
    )
    device: Literal["cpu", "cuda"] | None = None
    device_name: str | None = None
    device_memory_bytes: int | None = None
    problem: str | None = Field(default=None, description="Why its device does not work.")
    slots: int = Field(description="Stages that it runs at a time.")
    stage_memory_bytes: int = Field(description="What each of them may use of the host's memory.")
    version: str
    started_at: Timestamp
    heartbeat_at: Timestamp = Field(description="When it was heard of last.")
    running: list[RunningStage]


class WorkerList(Body):
    """All workers."""

    data: list[Worker]
