"""Options of scoring by block influence."""

from __future__ import annotations

from typing import Literal

from secateur.contract.options.scoring.blocks import TextScoring


class BlockInfluenceScoring(TextScoring):
    title = "Block influence"
    summary = (
        "How far a block turns the hidden state: the sum over tokens of 1 - cos(input, output). One forward pass, so "
        "the cheapest criterion that looks at text."
    )
    paper = "Men et al. 2024, ShortGPT, arXiv 2403.03853"

    criterion: Literal["block_influence"]
