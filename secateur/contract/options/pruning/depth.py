"""Options of depth pruning: whole blocks go."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.method import Method
from secateur.contract.options.papers import SHORTENED_LLAMA


class DepthPruning(Method):
    """Exactly one of `blocks`, `ratio` and `drop` says how much goes."""

    title = "Depth pruning"
    summary = (
        "Removes whole Transformer blocks, all at once. Faster at every batch size, and the checkpoint stays of the "
        "same architecture."
    )
    paper = SHORTENED_LLAMA

    kind: Literal["depth"] = "depth"
    blocks: int | None = Field(default=None, ge=1, description="How many blocks to remove.")
    ratio: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Fraction of the blocks to remove; rounded to whole blocks, at least one.",
    )
    drop: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, min_length=1, description="These very blocks, counted from 0; nothing is scored."
    )
    gguf: bool | None = Field(
        default=None,
        description="Write the pruned model as a GGUF file too, still quantised as the model's own; for models that "
        "are a `.gguf` file. If absent, that is done for those, where the format can say it.",
    )

    @model_validator(mode="after")
    def _one_of(self) -> DepthPruning:
        given = [name for name in ("blocks", "ratio", "drop") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "exactly_one",
                "give exactly one of `blocks`, `ratio` and `drop`, not {given}",
                {"given": " and ".join(given) or "none", "expected": "one of blocks, ratio, drop"},
            )
        if self.drop is not None and len(set(self.drop)) != len(self.drop):
            raise PydanticCustomError(
                "duplicate_blocks", "`drop` names a block twice", {"expected": "distinct block numbers"}
            )
        return self
