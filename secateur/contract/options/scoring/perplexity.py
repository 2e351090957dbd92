"""Options of scoring by perplexity."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.papers import SHORTENED_LLAMA
from secateur.contract.options.scoring.blocks import TextScoring


class PerplexityScoring(TextScoring):
    title = "Perplexity"
    summary = (
        "Perplexity of the model with one block removed, on the calibration text; the lowest go first. "
        "The paper's best criterion, and the default."
    )
    paper = SHORTENED_LLAMA

    criterion: Literal["perplexity"] = "perplexity"
    racing: bool = Field(
        default=False,
        description="Spend no more samples on blocks that can no longer be among the lowest: faster, and the scores of "
        "those blocks are from fewer samples.",
    )

    @property
    def searches(self) -> bool:
        return self.racing
