"""What the options of all recoveries that train have in common, with the paper's defaults."""

from __future__ import annotations

from typing import ClassVar, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.method import Method
from secateur.contract.options.texts import BOS, Bos, SelfText, Text, is_written
from secateur.contract.training_steps import most_steps, never_ends, warmup_expected


class TrainedRecovery(Method):
    """What all recoveries that train have in common, with the paper's defaults."""

    learning_rate: float = Field(default=1e-4, gt=0, le=1, description="Peak learning rate.")
    batch_size: int = Field(default=64, ge=1, description="Samples per optimiser step.")
    micro_batch_size: int = Field(default=4, ge=1, description="Samples per forward pass.")
    epochs: float = Field(default=2, gt=0, le=1000, description="Passes over the training samples.")
    warmup_steps: int | None = Field(
        default=None,
        ge=0,
        description="Steps of linear warm-up, fewer than all; absent: 100, but at most a tenth of all.",
    )
    usual_warmup: ClassVar[int] = 100
    max_steps: int | None = Field(default=None, ge=1, description="Stop after this many optimiser steps.")
    max_tokens: int | None = Field(default=None, ge=1, description="Stop after this many training tokens.")
    max_minutes: float | None = Field(
        default=None,
        gt=0,
        description="Stop after so many minutes, from the text on, those of killed attempts included.",
    )
    tokens: int = Field(default=256, ge=8, le=131_072, description="Tokens per training sample.")
    samples: int | None = Field(
        default=None,
        ge=1,
        description="Use at most this many samples; for self-generated text, make this many (default 512).",
    )
    text: Text = Field(default_factory=SelfText, description="Where the training text comes from.")
    bos: Bos = BOS
    format: Literal["text", "alpaca", "chat"] = Field(
        default="text",
        description="What the training text holds: plain text, or one JSON object a line with `instruction`, `input` "
        "and `output`, or with `messages` of `role` and `content`. A hub data set has these as columns.",
    )
    mask_prompt: bool | None = Field(
        default=None,
        description="Take no loss on instructions, on prompts and on what others than the assistant say; null takes "
        "none on prompts that the original answers (`answers`).",
    )
    warm_start: UUID | None = Field(
        default=None,
        description="The id of an earlier job of the same model without the same blocks: the training begins with the "
        "checkpoint that it recovered in place of the pruned one. That fits one set of blocks, so a target of speed or "
        "memory that the result misses is told, and not corrected by a second round.",
        examples=["019ab8e2-3f40-7d21-8a55-6c1de0b7f913"],
    )
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        default="adamw",
        description="AdamW, or AdamW with its two moments in 8 bits (Dettmers et al. 2021, arXiv 2110.02861), a "
        "quarter of their memory. The latter needs bitsandbytes on the worker.",
    )
    shard: bool = Field(
        default=False,
        description="Split weights, gradients and moments among the processes that train (FSDP2; Zhao et al. 2023, "
        "arXiv 2304.11277), for a model that no single device holds. Needs a worker that trains in several processes.",
    )
    checkpoint_steps: int = Field(
        default=50, ge=1, description="Save every so many steps; a killed recovery resumes there."
    )
    validation: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Fraction of the samples to hold out; their loss is taken with each checkpoint, and the best "
        "checkpoint is handed out.",
    )
    patience: int | None = Field(
        default=None, ge=1, description="Stop after so many checkpoints without a better validation loss."
    )
    heal: bool | None = Field(
        default=False,
        description="Do what `healing` does first, on the same text; null does so where there is a cut to heal.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.batch_size % self.micro_batch_size:
            raise PydanticCustomError(
                "batch_not_multiple",
                "`batch_size` ({batch}) must be a multiple of `micro_batch_size` ({micro})",
                {
                    "batch": self.batch_size,
                    "micro": self.micro_batch_size,
                    "expected": f"a multiple of {self.micro_batch_size}",
                },
            )
        if self.warm_start is not None and self.heal:
            raise PydanticCustomError(
                "heal_of_recovered",
                "healing is for a pruned model, and `warm_start` begins with a recovered one",
                {"field": "heal", "expected": "null or false, or no `warm_start`"},
            )
        if self.shard and self.optimizer == "adamw_8bit":
            raise PydanticCustomError(
                "shard_in_8_bits",
                "moments in 8 bits cannot be split among processes",
                {"field": "optimizer", "expected": '`optimizer`: "adamw", or no `shard`'},
            )
        if self.shard and self.batch_size == self.micro_batch_size:
            raise PydanticCustomError(
                "shard_of_one_micro_batch",
                "a batch of one micro-batch is trained by one process, among which nothing can be split",
                {"field": "micro_batch_size", "expected": "a part of `batch_size`, or no `shard`"},
            )
        if self.patience is not None and not self.validation:
            raise PydanticCustomError(
                "patience_without_validation",
                "`patience` needs samples to be held out",
                {"expected": "`validation` above 0, or no `patience`"},
            )
        most = self.most_steps
        if self.warmup_steps is not None and most is not None and self.warmup_steps >= most:
            raise PydanticCustomError(
                "warmup_without_end",
                "{detail}",
                {
                    "detail": never_ends(self.warmup_steps, most),
                    "field": "warmup_steps",
                    "expected": warmup_expected(most),
                },
            )
        return self

    @property
    def most_steps(self) -> int | None:
        """The most steps that the training can have, as far as the options tell; None: the text's length decides."""
        written = is_written(self.text)
        return most_steps(self, samples=self.samples, tokens=self.tokens, validation=self.validation, generated=written)


RANK = Field(default=8, ge=1, le=1024, description="Rank of the adapters.")
ALPHA = Field(default=16, gt=0, description="The adapters are scaled by alpha / rank.")
DROPOUT = Field(default=0.05, ge=0, lt=1, description="Dropout on the adapters' input.")
LAST_BLOCKS = Field(
    default=3,
    ge=1,
    le=10_000,
    description="How many blocks at the end `train`: `last_blocks` trains, with the final norm and the head.",
)
