"""Options of the greedy search for blocks."""

from __future__ import annotations

from typing import Literal

from secateur.contract.options.scoring.blocks import TextScoring


class GreedyScoring(TextScoring):
    title = "Greedy search"
    summary = (
        "Removes the block whose loss hurts least, looks again, and removes the next. Sees how removals interact, at "
        "the cost of a round per block; the first and the last block always stay."
    )
    paper = "Song et al. 2024, SLEB, arXiv 2402.09025"

    criterion: Literal["greedy"]

    @property
    def searches(self) -> bool:
        return True
