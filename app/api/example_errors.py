"""The examples of errors in the OpenAPI document, each as the service words it."""

from __future__ import annotations

from app.api.example_specs import JOB_ID, OTHER_JOB_ID
from secateur.contract.errors import (
    BadCheckpoint,
    Conflict,
    FieldError,
    InvalidInput,
    NotAcceptable,
    NotFound,
    RangeNotSatisfiable,
)

NO_JOB = NotFound(f"there is no job {JOB_ID}")
NOT_RETRIABLE = Conflict(f"job {JOB_ID} is running; only a failed or cancelled job can be retried")
NOT_OVER = Conflict(f"job {JOB_ID} is running; cancel it, and delete it when it is over")
NOT_ACCEPTABLE = NotAcceptable("none of image/png is offered here; there is application/json, text/event-stream")
NO_ARTIFACT = NotFound(f"job {JOB_ID} has no artifact prune/checkpoint/model.safetensors")
BAD_RANGE = RangeNotSatisfiable("the file has 742 bytes; bytes=1000- is not among them")
NO_REPORT = NotFound(f"job {JOB_ID} is running; it has no report yet")
NOT_COMPARABLE = Conflict(f"job {OTHER_JOB_ID} is running; only jobs that have succeeded can be compared")
_SAME = f"job {JOB_ID} is the same as itself"
SAME_JOB = InvalidInput(_SAME, errors=[FieldError("", _SAME, JOB_ID, "the id of another job", "path other_id")])
NO_SCORES = NotFound(f"job {JOB_ID} is running; it has no scores yet")

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
