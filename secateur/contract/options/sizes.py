"""The section `sizes` of a spec: models between the recovered one and the original, made of both without training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from secateur.contract.options.method import Options

End = Literal["last", "first"]

MOST = 16  # models of one job


class Sizes(Options):
    """Original blocks put back where blocks were removed (Boomerang, arXiv 2510.05064)."""

    blocks: tuple[Annotated[int, Field(ge=2)], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST,
        description="How many blocks the models are to have: more than the recovered one, fewer than the original. All "
        "that there are if absent. Blocks that were removed side by side come back together, so where a number cannot "
        "be had the next higher one is made.",
    )
    end: End = Field(
        default="last",
        description="At which end of the model the original's blocks are put back first; from there on it is the "
        "original.",
    )
