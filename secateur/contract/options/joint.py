"""The kind of pruning that chooses under one budget what goes from each block: its attention, its MLP, or all of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.method import Method
from secateur.contract.options.target import Target
from secateur.contract.options.texts import Calibration
from secateur.contract.options.unit_names import UnitName, refuse_twins

Goes = Literal["attention", "mlp", "block"]


class JointPruning(Method):
    """`target` says how much goes, and nothing else does."""

    title = "Joint pruning"
    summary = (
        "Removes from each block its attention, its MLP, all of it or nothing, whatever keeps the predictions nearest "
        "to the original's at the size, speed or memory that is asked for. Finer than whole blocks, and slower to find."
    )
    paper = "Bercovich et al. 2024, Puzzle, arXiv 2411.19146"

    kind: Literal["joint"]
    target: Target = Field(
        description="What the pruned model is to reach: the budget of the search. Where the result misses a speed or a "
        "memory, the report says by how much; there is no second round, as there is with whole blocks."
    )
    choices: tuple[Goes, ...] = Field(
        default=("attention", "mlp", "block"),
        min_length=1,
        description="What may go from a block: its attention, its MLP, both at once.",
    )
    plus: bool = Field(
        default=False,
        description='The "+" rule: both halves of the first four and of the last two blocks are never removed.',
    )
    protected: tuple[UnitName, ...] = Field(
        default=(), description="Halves of blocks that are never removed.", examples=[["0.attention", "0.mlp"]]
    )
    evaluations: int = Field(
        default=300,
        ge=1,
        le=100_000,
        description="How many sets are judged as a whole at most, beside each choice alone.",
    )
    calibration: Calibration = Field(
        default_factory=lambda: Calibration(samples=20),
        description="The text of the search: sets are judged on four fifths of it, and what is found on the last "
        "fifth too.",
    )
    healing: Calibration | None = Field(
        default_factory=lambda: Calibration(samples=128),
        description="The text on which what is left of a block is fitted to make up for what is gone; null: nothing "
        "is fitted. Weights that are quantised already stay as they are.",
    )

    @model_validator(mode="after")
    def _each_once(self) -> JointPruning:
        refuse_twins("protected", self.protected)
        if len(set(self.choices)) != len(self.choices):
            raise PydanticCustomError(
                "duplicate_choices", "`choices` names one twice", {"field": "choices", "expected": "distinct choices"}
            )
        return self
