"""Options of the evolutionary search for blocks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.scoring.blocks import TextScoring


class EvolutionaryScoring(TextScoring):
    title = "Evolutionary search"
    summary = (
        "Searches for the set of blocks whose removal changes the predictions least, by mutation and selection within "
        "a budget of evaluations. The most thorough, and the slowest."
    )
    paper = "Sieberling et al. 2024, EvoPress, arXiv 2410.14649"

    criterion: Literal["evolutionary"]
    evaluations: int = Field(default=704, ge=1, le=1_000_000, description="The budget: sets of blocks to try in all.")
    initial: int = Field(default=64, ge=1, le=100_000, description="Random sets in the first generation.")
    offspring: int = Field(default=32, ge=1, le=100_000, description="Mutations tried in each later generation.")

    @property
    def searches(self) -> bool:
        return True
