"""Options of scoring by the cosine of what enters and leaves a block."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.scoring.blocks import TextScoring


class CosineScoring(TextScoring):
    title = "Cosine"
    summary = (
        "1 - mean cos(input, output) of a block, averaged by batch: Minitron's depth importance. Close to block "
        "influence."
    )
    paper = "Muralidharan et al. 2024, Minitron, arXiv 2407.14679"

    criterion: Literal["cosine"]
    batch_size: int = Field(default=1, ge=1, description="Samples whose cosines are averaged before they are added up.")
