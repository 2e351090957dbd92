"""Options of FLAP."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.pruning.width import UNIFORM, WidthPruning
from secateur.contract.options.texts import Calibration


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
