"""Options of LLM-Pruner."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.pruning.width import UNIFORM, WidthPruning
from secateur.contract.options.texts import Calibration


class LlmPrunerPruning(WidthPruning):
    title = "LLM-Pruner"
    summary = (
        "Removes heads and neurons by gradients times weights, summed over all that must go together. Width pruning: "
        "all blocks stay, so generation at small batches gains little."
    )
    paper = "Ma et al. 2023, LLM-Pruner, arXiv 2305.11627"

    kind: Literal["llm_pruner"]
    importance: Literal["param_first", "param_second", "param_mix", "vectorize"] = Field(
        default="param_first", description="How gradients and weights make up the importance of a weight."
    )
    uniform: bool = UNIFORM
    keep_first: int | None = Field(
        default=None, ge=0, description="Blocks at the start that stay whole, unless uniform; 4 if absent."
    )
    keep_last: int | None = Field(
        default=None, ge=0, description="Blocks at the end that stay whole, unless uniform; 2 if absent."
    )
    calibration: Calibration = Field(
        default_factory=lambda: Calibration(tokens=64), description="The text on which gradients are taken."
    )

    @model_validator(mode="after")
    def _whole_blocks(self) -> LlmPrunerPruning:
        if self.uniform and not (self.keep_first is None and self.keep_last is None):
            raise PydanticCustomError(
                "uniform_keeps_none",
                "`keep_first` and `keep_last` make blocks of different widths, and `uniform` asks for one width",
                {"expected": "`uniform`: false, or neither of the two"},
            )
        return self

    @property
    def whole_ends(self) -> tuple[int, int]:
        """How many blocks at the start and at the end stay whole: as the paper has it, unless said otherwise."""
        if self.uniform:
            return 0, 0
        return 4 if self.keep_first is None else self.keep_first, 2 if self.keep_last is None else self.keep_last

    @property
    def uneven(self) -> bool:
        return not self.uniform
