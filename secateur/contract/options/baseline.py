"""An earlier job that a result is held against: figures may be so much worse than its, and no more.

Which job that is, is looked up in `app/db/baselines.py`; how a figure is held against another one's stands in
`secateur/contract/regression.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, model_validator

from secateur.contract.metrics import METRICS, NOISE
from secateur.contract.options.labels import Label, LabelName
from secateur.contract.options.method import Options, require_one

# whatever a result has, but for how unsure its times are
FIGURES = tuple(name for name in METRICS if name != NOISE.name)
_Figure: Any = Literal[FIGURES]


class Baseline(Options):
    """An earlier job, and by how much figures may be worse than its own. Exactly one of `label` and `job` names it."""

    label: dict[LabelName, Label] | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        description="Of the job: the last one before this that has all of these labels and passed its gates.",
        examples=[{"branch": "main"}],
    )
    job: UUID | None = Field(
        default=None, description="The job itself, in place of labels. It must have succeeded; its gates do not matter."
    )
    required: bool = Field(
        default=True,
        description="Whether a job is refused where none with these labels has passed; else nothing is held against "
        "anything, and the report says so.",
    )
    max_regression: dict[_Figure, Annotated[float, Field(ge=0)]] = Field(
        min_length=1,
        description="By how much a figure may be worse than that job's: as a share of it (0.05 is 5 %), and of what is "
        "a share itself (agreement, accuracy, exact match, same text, repetition) in points (0.02 is 2 points).",
        examples=[{"speedup": 0.05, "kl": 0.1, "accuracy": 0.02}],
    )

    @model_validator(mode="after")
    def _one_job(self) -> Baseline:
        require_one(self, ("label", "job"), "`label` and `job`")
        return self

    @property
    def in_words(self) -> str:
        """Which job it is: "the labels branch=main"."""
        if self.label is None:
            return f"job {self.job}"
        listed = ", ".join(f"{name}={value}" for name, value in self.label.items())
        return f"the label{'s' if len(self.label) > 1 else ''} {listed}"
