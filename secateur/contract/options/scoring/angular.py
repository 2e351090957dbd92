"""Options of scoring by the angular distance across a run of blocks."""

from __future__ import annotations

from typing import Literal

from secateur.contract.options.scoring.blocks import TextScoring


class AngularScoring(TextScoring):
    title = "Angular distance"
    summary = (
        "Removes the consecutive blocks across which the last token's state turns least. For removing many deep blocks "
        "before a training."
    )
    paper = "Gromov et al. 2024, The Unreasonable Ineffectiveness of the Deeper Layers, arXiv 2403.17887"

    criterion: Literal["angular"]

    @property
    def searches(self) -> bool:
        return True
