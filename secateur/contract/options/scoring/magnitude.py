"""Options of scoring by the size of weights."""

from __future__ import annotations

from typing import Literal

from secateur.contract.options.papers import SHORTENED_LLAMA
from secateur.contract.options.scoring.blocks import BlockScoring


class MagnitudeScoring(BlockScoring):
    title = "Magnitude"
    summary = (
        "Sum of |weight| over the block's linear and norm weights. Needs no calibration text; the weakest of the "
        "paper's three."
    )
    paper = SHORTENED_LLAMA

    criterion: Literal["magnitude"]
