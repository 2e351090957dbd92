"""Options of Wanda-sp."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.pruning.width import WidthPruning
from secateur.contract.options.texts import Calibration


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
