"""The examples of the OpenAPI document: what comes back. A test holds each against its schema."""

from __future__ import annotations

from typing import Any

from app.api.example_specs import JOB_ID, QUICK_LOOK_FILLED
from secateur.about import VERSION
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_graph import planned

REQUEST_ID = "ci-4711/submit"  # a caller's own, such as a pipeline's; the service makes one where none is sent

_PLAN = planned(CompressionSpec.model_validate(QUICK_LOOK_FILLED))


def _stage(key: str, state: str, attempt: int = 0, **more: Any) -> dict[str, Any]:
    plan = next(stage for stage in _PLAN if stage.key == key)
    nothing = {
        "progress": None,
        "memory_bytes": None,
        "use": None,
        "started_at": None,
        "finished_at": None,
        "problem": None,
    }
    return {
        **{"key": key, "kind": plan.kind, "needs": list(plan.needs), "added_by": None, "waits_for": None},
        **{"state": state, "attempt": attempt, **nothing, **more},
    }


def _job(state: str, stages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "id": JOB_ID,
        "state": state,
        "verdict": "none",
        "model": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "labels": {},
        "request_id": REQUEST_ID,
        "created_at": "2026-11-24T18:30:00.104000Z",
        "updated_at": "2026-11-24T18:30:00.104000Z",
        "started_at": None,
        "finished_at": None,
        "cancel_requested_at": None,
        "deadline_at": None,
        "stages": stages,
        "problem": None,
        "last_event_seq": 1,
        **more,
    }


_DONE = {"started_at": "2026-11-24T18:30:01.310000Z", "finished_at": "2026-11-24T18:30:09.820000Z"}

JOB_QUEUED = {
    **_job("queued", [_stage(stage.key, "queued") for stage in _PLAN]),
    "queue": None,
    "spec": QUICK_LOOK_FILLED,
}

_RUNNING = _job(
    "running",
    [
        _stage("check", "succeeded", 1, progress={"done": 10, "total": 10, "unit": "checks"}, **_DONE),
        _stage("score", "succeeded", 1, progress={"done": 30, "total": 30, "unit": "blocks"}, **_DONE),
        _stage("prune", "succeeded", 1, **_DONE),
        _stage(
            "benchmark",
            "running",
            1,
            progress={"done": 2, "total": 8, "unit": "runs"},
            use={
                "memory_bytes": 1_212_000_000,
                "peak_memory_bytes": 1_388_000_000,
                "cores": 1.9,
                "device_memory_bytes": None,
                "peak_device_memory_bytes": None,
                "device_busy": None,
            },
            started_at="2026-11-24T18:30:10.002000Z",
        ),
        _stage("report", "queued"),
    ],
    started_at="2026-11-24T18:30:01.310000Z",
    updated_at="2026-11-24T18:30:14.770000Z",
    last_event_seq=57,
)

JOB_CANCELLING = {
    **_RUNNING,
    "state": "cancelling",
    "cancel_requested_at": "2026-11-24T18:30:14.770000Z",
    "stages": [
        {**stage, "state": "cancelling"} if stage["state"] == "running" else stage for stage in _RUNNING["stages"]
    ],
    "queue": None,
    "spec": QUICK_LOOK_FILLED,
}

JOB_SUCCEEDED = {
    **_job(
        "succeeded",
        [_stage(stage.key, "succeeded", 1, **_DONE) for stage in _PLAN],
        started_at="2026-11-24T18:30:01.310000Z",
        finished_at="2026-11-24T18:31:40.480000Z",
        updated_at="2026-11-24T18:31:40.480000Z",
        last_event_seq=131,
    ),
    "queue": None,
    "spec": QUICK_LOOK_FILLED,
}

JOB_PAGE = {
    "data": [_RUNNING],
    "has_more": True,
    "next_cursor": "AZq44GocfF6dPytvDJ1OEQ",
}

_EVENTS: list[dict[str, Any]] = [
    {
        "seq": 1,
        "created_at": "2026-11-24T18:30:00.104000Z",
        "type": "state",
        "level": "info",
        "stage": None,
        "attempt": None,
        "request_id": REQUEST_ID,
        "data": {"state": "queued"},
    },
    {
        "seq": 2,
        "created_at": "2026-11-24T18:30:01.310000Z",
        "type": "state",
        "level": "info",
        "stage": "score",
        "attempt": 1,
        "request_id": REQUEST_ID,
        "data": {"state": "running", "stage": "score"},
    },
    {
        "seq": 3,
        "created_at": "2026-11-24T18:30:03.002000Z",
        "type": "progress",
        "level": "info",
        "stage": "score",
        "attempt": 1,
        "request_id": REQUEST_ID,
        "data": {"done": 12, "total": 30, "unit": "blocks"},
    },
]

EVENT_PAGE = {"data": _EVENTS, "has_more": True, "next_after": 3}

EVENT_STREAM = (
    "retry: 2000\n\n"
    "event: progress\n"
    'data: {"seq":3,"created_at":"2026-11-24T18:30:03.002000Z","type":"progress","level":"info","stage":"score",'
    '"attempt":1,"request_id":"ci-4711/submit","data":{"done":12,"total":30,"unit":"blocks"}}\n'
    "id: 3\n\n"
)

LOG_TEXT = "2026-11-24T18:30:01.402Z INFO    score#1      30 blocks, magnitude of the linear and norm weights\n"

LOG_PAGE = {
    "data": [
        {
            "seq": 4,
            "created_at": "2026-11-24T18:30:01.402000Z",
            "level": "info",
            "stage": "score",
            "attempt": 1,
            "request_id": REQUEST_ID,
            "message": "30 blocks, magnitude of the linear and norm weights",
        }
    ],
    "has_more": False,
    "next_after": 4,
}

ARTIFACT_LIST = {
    "data": [
        {
            "path": "prune/checkpoint/config.json",
            "stage": "prune",
            "size": 742,
            "sha256": "4c5dc9f2f6b0a4f0b4f8f1ad4ef4cbd1a1f3fd3f0e4b9b0e1a0a7a77e2a6a3c1",
            "content_type": "application/json",
            "created_at": "2026-11-24T18:30:09.820000Z",
        }
    ]
}

METRICS = (
    "# HELP secateur_jobs Jobs by state.\n"
    "# TYPE secateur_jobs gauge\n"
    'secateur_jobs{state="queued"} 0.0\n'
    'secateur_jobs{state="running"} 1.0\n'
)

HEALTH = {"status": "ok", "version": VERSION, "instance": "0f3a5b7c9d1e4f60a1b2c3d4e5f60718"}
READY = {
    "ready": True,
    "checks": {
        "database": {"ok": True, "detail": "answers", "needed": True},
        "migrations": {"ok": True, "detail": "up to date", "needed": True},
        "broker": {"ok": True, "detail": "answers; 0 messages wait", "needed": True},
        "store": {"ok": True, "detail": "answers", "needed": True},
        "workers": {"ok": True, "detail": "1 up", "needed": False},
    },
}
NOT_READY = {
    "ready": False,
    "checks": {
        "database": {"ok": True, "detail": "answers", "needed": True},
        "migrations": {"ok": True, "detail": "up to date", "needed": True},
        "broker": {"ok": False, "detail": "does not answer", "needed": True},
        "store": {"ok": True, "detail": "answers", "needed": True},
        "workers": {"ok": True, "detail": "1 up", "needed": False},
    },
}
