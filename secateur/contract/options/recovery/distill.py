"""Options of distillation."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.recovery.trained import ALPHA, LAST_BLOCKS, RANK, TrainedRecovery


class DistillRecovery(TrainedRecovery):
    """The original's own predictions as the target, on any text."""

    title = "Distillation"
    summary = (
        "Trains the pruned model, or adapters on it, to predict what the original predicts. Recovers the original "
        "rather than adapting to a text. The default."
    )
    paper = "Hinton et al. 2015, arXiv 1503.02531; Muralidharan et al. 2024, Minitron, arXiv 2407.14679"

    kind: Literal["distill"] = "distill"
    learning_rate: float = Field(default=2e-4, gt=0, le=1, description="Peak learning rate.")
    batch_size: int = Field(default=8, ge=1, description="Samples per optimiser step.")
    warmup_steps: int | None = Field(
        default=None,
        ge=0,
        description="Steps of linear warm-up, fewer than all; absent: 10, but at most a tenth of all.",
    )
    usual_warmup: ClassVar[int] = 10
    heal: bool | None = Field(
        default=None,
        description="Do what `healing` does first, on the same text; null does so where there is a cut to heal.",
    )
    train: Literal["auto", "lora", "all", "after_cut", "last_blocks"] = Field(
        default="auto",
        description="Train adapters, all weights, those of the blocks from the one before the first cut on, or those "
        "of the last blocks with the final norm and the head, the latter two being quicker; auto takes all where the "
        "memory that is free lets it.",
    )
    last_blocks: int = LAST_BLOCKS
    rank: int = RANK
    alpha: float = ALPHA
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the adapters' input.")
    temperature: float = Field(default=1.0, gt=0, le=20, description="Both distributions are softened by it.")
    top_k: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="How many of the original's likeliest tokens are stored for each position; the rest is one bucket.",
    )
    hidden_weight: float = Field(
        default=0.0,
        ge=0,
        description="Weight of the distance between the states that enter each kept block and the original's; above 0 "
        "the original runs beside the student at every step.",
    )

    @model_validator(mode="after")
    def _can_be_split(self) -> Self:
        if self.shard and self.hidden_weight:
            raise PydanticCustomError(
                "shard_beside_the_original",
                "`hidden_weight` keeps the original whole beside the model that `shard` splits",
                {"field": "hidden_weight", "expected": "0, or no `shard`"},
            )
        return self
