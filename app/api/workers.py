"""The workers of this installation."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from app.api.example_specs import JOB_ID
from app.api.responses import UNAUTHORIZED, Tag, example, problems
from app.deps import Caller, WorkDep, transaction
from app.services.workers import list_workers
from secateur.about import VERSION
from secateur.schemas.workers import WorkerList

TAG = Tag("workers", "Who runs the stages of jobs.", place=6)
router = APIRouter(tags=[TAG.name])

EXAMPLE: dict[str, Any] = {
    "data": [
        {
            "id": "019ab8df-0b52-7b1c-8d70-5a4c3e2b1a09",
            "name": "gpu-3:4711",
            "host": "gpu-3",
            "state": "up",
            "device": "cuda",
            "device_name": "NVIDIA H200",
            "device_memory_bytes": 150_754_820_096,
            "problem": None,
            "slots": 1,
            "stage_memory_bytes": 116_823_110_451,
            "version": VERSION,
            "started_at": "2026-11-24T18:00:00Z",
            "heartbeat_at": "2026-11-24T18:30:04Z",
            "running": [{"job_id": JOB_ID, "key": "score", "kind": "score"}],
        }
    ]
}


@router.get(
    "/workers",
    summary="List workers",
    responses={200: example(EXAMPLE), **problems(UNAUTHORIZED, instance="/workers")},
)
@transaction
def get_workers(work: WorkDep, _: Caller) -> WorkerList:
    """Each worker with its host, device, memory and slots, what it runs, and when it was heard of last.

    One that stops takes itself away; one that is killed is `lost` after some heartbeats, and forgotten after a day.
    """
    return list_workers(work.session)
