"""What the sizes stage hands on: models between the recovered one and the original."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.results import Result


class ModelBetween(Result):
    """A model between the recovered one and the original. Its checkpoint lies in `<name>/checkpoint/` of the stage."""

    name: str  # "28-blocks"
    blocks: int
    put_back: list[int]  # of the blocks that were removed
    originals: tuple[int, int]  # first and last of the original's blocks that are its own as they were
    parameters: int
    bytes: int  # of all tensors


class BetweenSizes(Result):
    """What the sizes stage did."""

    models: list[ModelBetween]  # the smallest first
    end: Literal["last", "first"]
    seconds: float
    notes: list[str] = Field(default_factory=list)
