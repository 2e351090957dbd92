"""Examples of sweeps for the OpenAPI document: bodies that can be sent, what comes back, and errors."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.api import example_results, examples
from app.api.example_specs import LOCAL_GGUF, OTHER_JOB_ID
from secateur.contract.errors import Conflict, FieldError, InvalidInput, NotFound
from secateur.contract.expectations import A_UUID
from secateur.contract.jobs import State, Verdict
from secateur.contract.report import Report
from secateur.contract.sweep_report import Shared
from secateur.contract.sweep_results import PointSoFar
from secateur.report.sweep_assembly import assemble_sweep

SWEEP_ID = "019ab8e4-1f20-7a4e-b1c3-9d2e6f708a15"
PATH = f"/sweeps/{SWEEP_ID}"

GRID: dict[str, Any] = {
    "spec": {
        "model": {"source": "local", "path": "SmolLM2-135M-Instruct.Q4_1.gguf"},
        "pruning": {"kind": "depth"},
        "recovery": {"kind": "healing"},
    },
    "grid": {"pruning.blocks": [3, 6, 9], "scoring.criterion": ["perplexity", "taylor"]},
    "gates": {"min_speedup": 1.2, "max_kl": 0.5},
    "labels": {"commit": "abc123"},
}
POINTS: dict[str, Any] = {
    "spec": {"model": LOCAL_GGUF["model"], "recovery": {"kind": "none"}},
    "points": [
        {"pruning": {"kind": "depth", "blocks": 6}},
        {"pruning": {"kind": "flap", "ratio": 0.2}},
    ],
}
SUBMIT: Any = {
    "grid": {
        "summary": "How much may go, by which criterion",
        "description": "Six jobs, of which those of one criterion share its scoring.",
        "value": GRID,
    },
    "points": {
        "summary": "Depth against width",
        "description": "Two jobs, each with a method of its own.",
        "value": POINTS,
    },
}
_SUMMARY: dict[str, Any] = {
    "id": SWEEP_ID,
    "state": "running",
    "verdict": "none",
    "model": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "labels": {"commit": "abc123"},
    "counts": {"queued": 4, "running": 1, "cancelling": 0, "succeeded": 1, "failed": 0, "cancelled": 0},
    "request_id": examples.REQUEST_ID,
    "created_at": "2026-11-24T18:30:00.104000Z",
    "finished_at": None,
}


def _point(place: int, blocks: int, criterion: str, **more: Any) -> dict[str, Any]:
    return {
        "place": place,
        "changes": {"pruning.blocks": blocks, "scoring.criterion": criterion},
        "job_id": f"{OTHER_JOB_ID[:-1]}{place}",
        "state": "queued",
        "verdict": "none",
        "stages": 6,
        "stages_done": 0,
        "running": [],
        "started_at": None,
        "finished_at": None,
        "problem": None,
        **more,
    }


_BEGUN = "2026-11-24T18:30:01.310000Z"
EXAMPLE: dict[str, Any] = {
    **_SUMMARY,
    "asked": GRID,
    "gates": {"judge": "interval", "min_speedup": 1.2, "max_kl": 0.5},
    "points": [
        _point(
            0,
            3,
            "perplexity",
            state="succeeded",
            verdict="failed",
            stages_done=6,
            started_at=_BEGUN,
            finished_at="2026-11-24T18:41:40.480000Z",
        ),
        _point(1, 3, "taylor", state="running", stages_done=2, running=["recover"], started_at=_BEGUN),
        *(
            _point(2 + number, blocks, criterion)
            for number, (blocks, criterion) in enumerate(
                [(6, "perplexity"), (6, "taylor"), (9, "perplexity"), (9, "taylor")]
            )
        ),
    ],
}
_CHANGE = {name: EXAMPLE[name] for name in ("id", "state", "verdict", "counts", "finished_at")}
EXAMPLE_PAGE = {"data": [_SUMMARY], "has_more": False, "next_cursor": None}

NO_SWEEP = NotFound(f"there is no sweep {SWEEP_ID}")
NOT_RETRIABLE = Conflict(f"no point of sweep {SWEEP_ID} has failed or was cancelled, so there is none to retry")
NOT_OVER = Conflict(f"4 points of sweep {SWEEP_ID} are not over; cancel it, and delete it when it is")
BAD_ID = InvalidInput(
    f"the path parameter sweep_id must be {A_UUID}",
    errors=[FieldError("", f"the path parameter sweep_id must be {A_UUID}", "7", A_UUID, "path sweep_id")],
)
_MANY = "the grid has 10,000 points; a sweep has at most 256 (SECATEUR_MAX_SWEEP_POINTS)"
SUBMIT_ERRORS = (
    InvalidInput(_MANY, errors=[FieldError("/grid", _MANY, 10_000, "at most 256 points")]),
    InvalidInput(
        "`ratio` must be a number, above 0 and below 1",
        errors=[
            FieldError(
                "/grid/pruning.ratio/2",
                "`ratio` must be a number, above 0 and below 1",
                1.2,
                "a number, above 0 and below 1",
            )
        ],
    ),
)

_GATES = {"judge": "interval", "min_speedup": 1.2}
_REPORT = assemble_sweep(
    [
        PointSoFar(
            0,
            {"pruning.blocks": 1},
            UUID(OTHER_JOB_ID),
            State.SUCCEEDED,
            "",
            Report.model_validate(example_results.REPORT),
        ),
        PointSoFar(
            1, {"pruning.blocks": 9}, UUID(f"{OTHER_JOB_ID[:-1]}4"), State.FAILED, "It ran out of memory.", None
        ),
    ],
    x="speedup",
    y="parameters",
    sweep_id=UUID(SWEEP_ID),
    created_at=datetime(2026, 11, 24, 18, 30, tzinfo=UTC),
    state=State.FAILED,
    verdict=Verdict.PASSED,
    model="SmolLM2-135M-Instruct.Q4_1.gguf",
    labels={"commit": "abc123"},
    gates=_GATES,
    shared=[Shared(kind="score", computed=1, taken_over=1, seconds_saved=38.4)],
)
REPORT: dict[str, Any] = _REPORT.model_dump(mode="json")
VERDICT: dict[str, Any] = {
    "sweep_id": SWEEP_ID,
    "state": "failed",
    "verdict": "passed",
    "recommended": _REPORT.point(0).model_dump(mode="json"),
    "why": _REPORT.why,
}
CHANGES = f"event: sweep\ndata: {json.dumps({**_CHANGE, 'points': EXAMPLE['points'][:1]})}\n\n"
