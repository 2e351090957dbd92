"""Options of the search for blocks that are judged after healing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.scoring.blocks import TextScoring
from secateur.contract.options.texts import Calibration


def _more_text() -> Calibration:
    """Healing is fitted on it too."""
    return Calibration(samples=64)


class HealedGreedyScoring(TextScoring):
    title = "Greedy search after healing"
    summary = (
        "Judges sets of blocks by how far the model predicts from the original once their cuts are healed: every run "
        "of so many blocks in a row, and sets found one block at a time. The best of both go."
    )
    paper = "after Shopkhoev et al. 2025, ReplaceMe, arXiv 2505.02819, and Song et al. 2024, SLEB, arXiv 2402.09025"

    criterion: Literal["healed_greedy"]
    calibration: Calibration = Field(
        default_factory=_more_text, description="Four fifths of it are fitted on; sets are judged on the last fifth."
    )
    sets: Literal["runs", "scattered", "both"] = Field(
        default="both", description="Blocks in a row, blocks found one at a time wherever they stand, or both."
    )

    @property
    def searches(self) -> bool:
        return True
