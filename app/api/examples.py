"""The examples of the OpenAPI document: bodies to send, and what comes back. A test holds each against its schema."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from app.domain.estimates import EstimateRequest, estimate
from app.domain.spec import CompressionSpec
from app.errors import (
    BadCheckpoint,
    Conflict,
    FieldError,
    InvalidInput,
    NotAcceptable,
    NotFound,
    RangeNotSatisfiable,
    UnsupportedModel,
)
from app.version import VERSION

JOB_ID = "019ab8e0-6a1c-7c5e-9d3f-2b6f0c9d4e11"
JOB_PATH = f"/jobs/{JOB_ID}"

LOCAL_GGUF: dict[str, Any] = {
    "model": {"source": "local", "path": "SmolLM2-135M-Instruct.Q4_1.gguf"},
    "pruning": {"kind": "depth", "blocks": 6},
}

HUB_WITH_GATES: dict[str, Any] = {
    "model": {"source": "hub", "id": "HuggingFaceTB/SmolLM2-135M-Instruct"},
    "scoring": {
        "criterion": "perplexity",
        "calibration": {
            "text": {"source": "hub", "id": "Salesforce/wikitext", "config": "wikitext-2-raw-v1"},
            "samples": 10,
            "tokens": 128,
        },
    },
    "pruning": {"kind": "depth", "ratio": 0.2},
    "recovery": {
        "kind": "lora",
        "rank": 8,
        "text": {"source": "hub", "id": "Salesforce/wikitext", "config": "wikitext-2-raw-v1"},
    },
    "gates": {"min_speedup": 1.25, "max_perplexity_ratio": 1.5},
    "labels": {"commit": "abc123"},
}

EXPLICIT_DROP: dict[str, Any] = {
    "model": {"source": "local", "path": "SmolLM2-135M-Instruct.Q4_1.gguf"},
    "pruning": {"kind": "depth", "drop": [21, 22, 23, 24, 25, 26]},
    "recovery": {"kind": "none"},
    "benchmark": {"latency": {"warmup": 2, "runs": 5}},
}

QUICK_LOOK: dict[str, Any] = {
    "model": {"source": "local", "path": "SmolLM2-135M-Instruct.Q4_1.gguf"},
    "scoring": {"criterion": "magnitude"},
    "pruning": {"kind": "depth", "blocks": 6},
    "recovery": {"kind": "none"},
    "benchmark": {"latency": {"output_tokens": [16], "warmup": 1, "runs": 3}, "samples": None},
}

SUBMIT: Any = {
    "local-gguf": {
        "summary": "A local GGUF file, six blocks fewer",
        "description": "The least that a job needs; every default is the paper's. The file lies under a model root.",
        "value": LOCAL_GGUF,
    },
    "hub-with-gates": {
        "summary": "A hub model, a fifth of its blocks fewer, with gates",
        "description": "What a pipeline sends: the verdict is `failed` where a gate does not hold.",
        "value": HUB_WITH_GATES,
    },
    "explicit-drop": {
        "summary": "These very blocks, no recovery",
        "description": "Nothing is scored and nothing trained.",
        "value": EXPLICIT_DROP,
    },
    "quick-look": {
        "summary": "The fastest job there is",
        "description": "Scores from the weights alone, few timed runs: to see that everything works.",
        "value": QUICK_LOOK,
    },
}


# The config of SmolLM2-135M-Instruct, as far as sizes need it.
SMOLLM2_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}

ESTIMATE_REQUESTS: Any = {
    "six-of-thirty": {
        "summary": "SmolLM2-135M without six blocks",
        "value": {"config": SMOLLM2_CONFIG, "pruning": {"kind": "depth", "blocks": 6}},
    },
}

ESTIMATE = asdict(
    estimate(
        SMOLLM2_CONFIG,
        EstimateRequest.model_validate(ESTIMATE_REQUESTS["six-of-thirty"]["value"]),
        pointer="/config",
    )
)


def _stage(name: str, state: str, attempt: int = 0, **more: Any) -> dict[str, Any]:
    nothing = {"progress": None, "started_at": None, "finished_at": None, "problem": None}
    return {"name": name, "state": state, "attempt": attempt, **nothing, **more}


def _job(state: str, stages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "id": JOB_ID,
        "state": state,
        "verdict": "none",
        "model": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "labels": {},
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


_SPEC = CompressionSpec.model_validate(QUICK_LOOK).model_dump(mode="json")
_NAMES = ("score", "prune", "benchmark", "report")
_DONE = {"started_at": "2026-11-24T18:30:01.310000Z", "finished_at": "2026-11-24T18:30:09.820000Z"}

JOB_QUEUED = {**_job("queued", [_stage(name, "queued") for name in _NAMES]), "spec": _SPEC}

_RUNNING = _job(
    "running",
    [
        _stage("score", "succeeded", 1, progress={"done": 30, "total": 30, "unit": "blocks"}, **_DONE),
        _stage("prune", "succeeded", 1, **_DONE),
        _stage(
            "benchmark",
            "running",
            1,
            progress={"done": 2, "total": 8, "unit": "runs"},
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
    "spec": _SPEC,
}

JOB_SUCCEEDED = {
    **_job(
        "succeeded",
        [_stage(name, "succeeded", 1, **_DONE) for name in _NAMES],
        started_at="2026-11-24T18:30:01.310000Z",
        finished_at="2026-11-24T18:31:40.480000Z",
        updated_at="2026-11-24T18:31:40.480000Z",
        last_event_seq=131,
    ),
    "spec": _SPEC,
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
        "data": {"state": "queued"},
    },
    {
        "seq": 2,
        "created_at": "2026-11-24T18:30:01.310000Z",
        "type": "state",
        "level": "info",
        "stage": "score",
        "attempt": 1,
        "data": {"state": "running", "stage": "score"},
    },
    {
        "seq": 3,
        "created_at": "2026-11-24T18:30:03.002000Z",
        "type": "progress",
        "level": "info",
        "stage": "score",
        "attempt": 1,
        "data": {"done": 12, "total": 30, "unit": "blocks"},
    },
]

EVENT_PAGE = {"data": _EVENTS, "has_more": True, "next_after": 3}

EVENT_STREAM = (
    "retry: 2000\n\n"
    "event: progress\n"
    'data: {"seq":3,"created_at":"2026-11-24T18:30:03.002000Z","type":"progress","level":"info","stage":"score",'
    '"attempt":1,"data":{"done":12,"total":30,"unit":"blocks"}}\n'
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

_MODEL = {
    "id": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "revision": None,
    "fingerprint": "b1e7e4f0a7d14d5c3f0d7fd0a5d3f2f2cf40a0f8f8c1f7ad6d3a8cf1a2a3e9b4",
    "family": "llama",
    "blocks": 4,
    "parameters": 3154432,
    "bytes_on_disk": 12634112,
}
_ENVIRONMENT = {
    "device": "cpu",
    "device_name": "AMD EPYC",
    "dtype": "float32",
    "threads": 2,
    "platform": "Linux x86_64",
    "python": "3.11.7",
    "versions": {"secateur": VERSION, "torch": "2.13.0"},
}

# Shapes of the results of a made-up model of four blocks: what stands where, not what to expect.
SCORES: dict[str, Any] = {
    "criterion": "magnitude",
    "options": {"criterion": "magnitude", "plus": False},
    "blocks": [
        {"block": 0, "value": 41250.5, "standard_error": None},
        {"block": 1, "value": 38120.25, "standard_error": None},
        {"block": 2, "value": 37990.0, "standard_error": None},
        {"block": 3, "value": 40011.75, "standard_error": None},
    ],
    "order": [2, 1, 3, 0],
    "protected": [],
    "drop": [2],
    "calibration": None,
    "model": _MODEL,
    "seed": 0,
    "seconds": 0.4,
    "environment": _ENVIRONMENT,
    "details": {},
}


def _measured(variant: str, parameters: int, blocks: int, seconds: float, speedup: Any) -> dict[str, Any]:
    def interval(median: float) -> dict[str, float]:
        return {"median": median, "low": round(0.98 * median, 4), "high": round(1.02 * median, 4)}

    return {
        "variant": variant,
        "parameters": parameters,
        "blocks": blocks,
        "bytes_on_disk": 4 * parameters,
        "latency": [
            {
                "batch_size": 1,
                "input_tokens": 12,
                "output_tokens": 16,
                "runs": 3,
                "seconds": interval(seconds),
                "tokens_per_second": interval(16 / seconds),
                "time_to_first_token": interval(seconds / 10),
                "time_per_output_token": interval(seconds / 17),
                "speedup": speedup,
                "noise": 0.02,
            }
        ],
        "memory": None,
        "perplexity": [],
        "fidelity": [],
        "samples": [],
    }


REPORT: dict[str, Any] = {
    "schema_version": "1.0",
    "job_id": JOB_ID,
    "created_at": "2026-11-24T18:30:00.104000Z",
    "spec": _SPEC,
    "model": _MODEL,
    "scores": SCORES,
    "pruned": {
        "kind": "depth",
        "dropped": [2],
        "kept": [0, 1, 3],
        "parameters_before": 3154432,
        "parameters_after": 2890240,
        "bytes_before": 12634112,
        "bytes_after": 11577344,
        "seconds": 0.1,
        "needs_loader": False,
        "notes": [],
        "model": _MODEL,
    },
    "recovered": None,
    "benchmarks": {
        "variants": [
            _measured("original", 3154432, 4, 0.2, None),
            _measured("pruned", 2890240, 3, 0.16, {"median": 1.25, "low": 1.22, "high": 1.28}),
        ],
        "environment": _ENVIRONMENT,
        "seconds": 4.1,
        "notes": [],
    },
    "final_variant": "pruned",
    "verdict": "passed",
    "gates": [
        {
            "gate": "min_speedup",
            "metric": "speedup (batch 1, 12 + 16 tokens)",
            "threshold": 1.2,
            "value": 1.25,
            "low": 1.22,
            "high": 1.28,
            "passed": True,
            "message": "speedup (batch 1, 12 + 16 tokens) is 1.25 (1.22 to 1.28), at least 1.2",
        }
    ],
    "notes": [],
}

METRICS = (
    "# HELP secateur_jobs Jobs by state.\n"
    "# TYPE secateur_jobs gauge\n"
    'secateur_jobs{state="queued"} 0.0\n'
    'secateur_jobs{state="running"} 1.0\n'
)

HEALTH = {"status": "ok", "version": VERSION}
READY = {
    "ready": True,
    "checks": {
        "database": {"ok": True, "detail": "answers"},
        "migrations": {"ok": True, "detail": "up to date"},
        "broker": {"ok": True, "detail": "answers; 0 messages wait"},
    },
}
NOT_READY = {
    "ready": False,
    "checks": {
        "database": {"ok": True, "detail": "answers"},
        "migrations": {"ok": True, "detail": "up to date"},
        "broker": {"ok": False, "detail": "does not answer"},
    },
}

# --- errors -------------------------------------------------------------------------------------------------------

NO_JOB = NotFound(f"there is no job {JOB_ID}")
NOT_RETRIABLE = Conflict(f"job {JOB_ID} is running; only a failed or cancelled job can be retried")
NOT_OVER = Conflict(f"job {JOB_ID} is running; cancel it, and delete it when it is over")
NOT_ACCEPTABLE = NotAcceptable("none of image/png is offered here; there is application/json, text/event-stream")
NO_ARTIFACT = NotFound(f"job {JOB_ID} has no artifact prune/checkpoint/model.safetensors")
BAD_RANGE = RangeNotSatisfiable("the file has 742 bytes; bytes=1000- is not among them")
NO_REPORT = NotFound(f"job {JOB_ID} is running; it has no report yet")
NO_SCORES = NotFound(f"job {JOB_ID} is running; it has no scores yet")

NO_FORMULA = UnsupportedModel(
    "no formula is known for models of type 'mamba'",
    errors=[
        FieldError("/config", "no formula is known for models of type 'mamba'", None, "one of llama, mistral, qwen2")
    ],
)

SUBMIT_ERRORS = (
    InvalidInput(
        "unknown criterion 'perplexty'; did you mean 'perplexity'?",
        errors=[
            FieldError(
                "/scoring/criterion",
                "unknown criterion 'perplexty'; did you mean 'perplexity'?",
                "perplexty",
                "one of perplexity, taylor, magnitude",
            )
        ],
    ),
    InvalidInput(
        '`blocks` removes 28 blocks, and the model has 30, of which the "+" rule keeps 6',
        errors=[
            FieldError(
                "/pruning/blocks",
                '`blocks` removes 28 blocks, and the model has 30, of which the "+" rule keeps 6',
                28,
                'at most 24 blocks, or "plus": false in `scoring`',
            )
        ],
    ),
    BadCheckpoint(
        "its weights are pickled (pytorch_model.bin), which could run code when they are read",
        errors=[
            FieldError(
                "/model/path",
                "its weights are pickled (pytorch_model.bin), which could run code when they are read",
                "old-model",
                "a folder with config.json and .safetensors weights, or a .gguf file",
            )
        ],
    ),
)
