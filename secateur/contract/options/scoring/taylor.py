"""Options of scoring by gradients times weights."""

from __future__ import annotations

from typing import Literal

from secateur.contract.options.papers import SHORTENED_LLAMA
from secateur.contract.options.scoring.blocks import TextScoring


class TaylorScoring(TextScoring):
    title = "Taylor"
    summary = (
        "Sum of |weight x gradient| over the block's linear and norm weights: the first-order estimate of the "
        "loss's change. Needs gradients, one block at a time."
    )
    paper = SHORTENED_LLAMA

    criterion: Literal["taylor"]
