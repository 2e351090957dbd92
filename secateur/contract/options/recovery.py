"""The options of every recovery that a job may name; see `options.py`."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.methods import BOS, Bos, Options, SelfText, Text
from secateur.contract.options.recovery_steps import most_steps, never_ends, warmup_expected


class NoRecovery(Options):
    kind: Literal["none"]


class HealingRecovery(Options):
    """A linear map for each cut, fitted by least squares and folded into the weights; nothing is trained."""

    kind: Literal["healing"]
    text: Text = Field(default_factory=SelfText, description="The text on which the maps are fitted.")
    samples: int = Field(default=64, ge=1, le=100_000, description="Samples of the text.")
    tokens: int = Field(default=256, ge=8, le=131_072, description="Tokens per sample.")
    bos: Bos = BOS
    ridge: float | None = Field(
        default=None,
        gt=0,
        description="How firmly a map is held to the identity, in units of the mean square of what it is fitted on; "
        "chosen on held-out tokens if absent.",
    )


class TrainedRecovery(Options):
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
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        default="adamw",
        description="AdamW, or AdamW with its two moments in 8 bits (Dettmers et al. 2021, arXiv 2110.02861), a "
        "quarter of their memory. The latter needs bitsandbytes on the worker.",
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
        description="Fit and fold the maps of `healing` in first, on the same text; null does so where it holds.",
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
        if self.patience is not None and not self.validation:
            raise PydanticCustomError(
                "patience_without_validation",
                "`patience` needs samples to be held out",
                {"expected": "`validation` above 0, or no `patience`"},
            )
        most = most_steps(
            self,
            samples=self.samples,
            tokens=self.tokens,
            validation=self.validation,
            generated=isinstance(self.text, SelfText),
        )
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


RANK = Field(default=8, ge=1, le=1024, description="Rank of the adapters.")
ALPHA = Field(default=16, gt=0, description="The adapters are scaled by alpha / rank.")
DROPOUT = Field(default=0.05, ge=0, lt=1, description="Dropout on the adapters' input.")


class LoraRecovery(TrainedRecovery):
    """The paper's recipe."""

    kind: Literal["lora"] = "lora"
    rank: int = RANK
    alpha: float = ALPHA
    dropout: float = DROPOUT
    rank_stabilised: bool = Field(
        default=False, description="Scale by alpha / √rank instead (Kalajdzievski 2023, arXiv 2312.03732)."
    )
    dora: bool = Field(
        default=False, description="Train magnitudes apart from directions (Liu et al. 2024, DoRA, arXiv 2402.09353)."
    )
    format: Literal["text", "alpaca", "chat"] = Field(
        default="text",
        description="What the training text holds: plain text, or one JSON object a line with `instruction`, `input` "
        "and `output`, or with `messages` of `role` and `content`. A hub data set has these as columns.",
    )
    mask_prompt: bool = Field(
        default=False, description="Take no loss on instructions and on what others than the assistant say."
    )
    packing: bool = Field(
        default=True,
        description="Put several examples into one sample, each with positions of its own and blind to the others; "
        "otherwise one example a sample, padded. Plain text is always packed.",
    )


class ContinuedRecovery(TrainedRecovery):
    """All weights, next-token loss: what training was before the cut."""

    kind: Literal["continued"]
    epochs: float = Field(default=1, gt=0, le=1000, description="Passes over the training samples.")
    weight_decay: float = Field(default=0.1, ge=0, le=1, description="Decay of the matrices, not of norms and biases.")
    gradient_checkpointing: bool = Field(
        default=True, description="Compute states again in the backward pass, which saves memory and costs a third."
    )


class DistillRecovery(TrainedRecovery):
    """The original's own predictions as the target, on any text."""

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
        description="Fit and fold the maps of `healing` in first, on the same text; null does so where it holds.",
    )
    train: Literal["auto", "lora", "all", "after_cut"] = Field(
        default="auto",
        description="Train adapters, all weights, or those of the blocks from the one before the first cut on, which "
        "is quicker; auto takes all where the memory that is free lets it.",
    )
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
