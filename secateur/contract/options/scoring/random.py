"""Options of the random order."""

from __future__ import annotations

from typing import Literal

from secateur.contract.options.papers import SHORTENED_LLAMA
from secateur.contract.options.scoring.blocks import BlockScoring


class RandomScoring(BlockScoring):
    title = "Random"
    summary = "A random order, by the job's seed: the baseline that every criterion must beat."
    paper = SHORTENED_LLAMA

    criterion: Literal["random"]
