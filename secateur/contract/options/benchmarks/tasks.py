"""Options of the zero-shot tasks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from secateur.contract.options.method import Method


class TasksBenchmark(Method):
    """Zero-shot tasks by lm-evaluation-harness; the paper's seven of common sense unless others are named."""

    title = "Zero-shot tasks"
    summary = (
        "Accuracy on multiple-choice and other tasks of lm-evaluation-harness, with the drop from the original judged "
        "item by item."
    )
    paper = "Gao et al. 2024, lm-evaluation-harness, doi 10.5281/zenodo.12608602"

    tasks: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=("boolq", "piqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa"),
        min_length=1,
        max_length=100,
        description="Names of the harness's tasks, or of those in `folder`.",
    )
    limit: int | None = Field(default=None, ge=1, description="Only the first so many items of each task.")
    few_shot: int | None = Field(
        default=None, ge=0, le=100, description="Worked examples before each item; as the task has it if absent."
    )
    batch_size: int = Field(default=8, ge=1, le=4096, description="Requests per forward pass.")
    folder: str | None = Field(
        default=None,
        min_length=1,
        description="A folder of the harness's YAML files under one of the service's data roots. They may not call "
        "code, and their data files are taken relative to them.",
        examples=["tasks"],
    )
