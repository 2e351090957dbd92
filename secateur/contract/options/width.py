"""The width methods of the section `pruning`: every block stays, and loses heads and neurons.

A method is a class here and a line in `WidthMethod`, at the end. What stays by it is chosen by `choose` in the file of
its name in `workers/engine/pruning/`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.method import Method
from secateur.contract.options.texts import Calibration


class WidthPruning(Method):
    """What all width methods have in common: every block stays, and loses heads and neurons."""

    kind: str
    ratio: float = Field(gt=0, lt=1, description="Fraction of all parameters to remove, embeddings included.")
    multiple: Literal[1, 8, 64, 128] = Field(
        default=1, description="Neurons of each block come in multiples of this, which suits some hardware better."
    )
    calibration: Calibration  # each method has its own default

    @property
    def uneven(self) -> bool:
        """Whether blocks may keep different numbers of heads and neurons."""
        return False

    @property
    def compensated(self) -> bool:
        """Whether biases make up for what the pruned channels gave on average."""
        return False


UNIFORM = Field(
    default=True,
    description="Every block keeps the same numbers of heads and neurons, so that transformers loads the checkpoint as "
    "it is. Otherwise they differ as the method has it, and a small loader is shipped beside the weights.",
)


class WandaSpPruning(WidthPruning):
    """The same share of every block goes."""

    title = "Wanda-sp"
    summary = (
        "Removes heads and neurons with small weights times activations, the same share of every block. Width pruning: "
        "all blocks stay, so generation at small batches gains little."
    )
    paper = "Sun et al. 2023, Wanda, arXiv 2306.11695; structured as in An et al. 2023, FLAP, arXiv 2312.11983"

    kind: Literal["wanda_sp"]
    calibration: Calibration = Field(
        default_factory=lambda: Calibration(samples=128), description="The text on which activations are measured."
    )


class FlapPruning(WidthPruning):
    title = "FLAP"
    summary = (
        "Removes heads and neurons that fluctuate little, and puts their mean output into biases. Width pruning: all "
        "blocks stay, so generation at small batches gains little."
    )
    paper = "An et al. 2023, FLAP, arXiv 2312.11983"

    kind: Literal["flap"]
    uniform: bool = UNIFORM
    compensate: bool = Field(
        default=True,
        description="Put what the pruned channels gave on average into biases. Families whose projections have no "
        "biases then need the loader.",
    )
    calibration: Calibration = Field(
        default_factory=lambda: Calibration(samples=1024), description="The text on which activations are measured."
    )

    @property
    def uneven(self) -> bool:
        return not self.uniform

    @property
    def compensated(self) -> bool:
        return self.compensate


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


# The table of width methods.
WidthMethod = WandaSpPruning | FlapPruning | LlmPrunerPruning
