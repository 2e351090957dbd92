"""The section `recovery` of a spec: what brings quality back, with its options, and the table of the ways.

A recovery is a class here and a line in `Recovery`, at the end; what those that train share is `training.py`. How it
works is `recover` in the file of its name in `workers/engine/recovery/`. A job without one has no such stage.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.method import Method, usually
from secateur.contract.options.papers import SHORTENED_LLAMA
from secateur.contract.options.texts import BOS, Bos, SelfText, Text
from secateur.contract.options.training import ALPHA, DROPOUT, LAST_BLOCKS, RANK, TrainedRecovery


class NoRecovery(Method):
    title = "No recovery"
    summary = "The pruned model as it is."
    paper = SHORTENED_LLAMA

    kind: Literal["none"]


class LoraRecovery(TrainedRecovery):
    """The paper's recipe."""

    title = "LoRA"
    summary = "Low-rank adapters on all projections, trained by next-token loss on a text and merged into the weights."
    paper = f"{SHORTENED_LLAMA}; Hu et al. 2021, LoRA, arXiv 2106.09685"

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
    packing: bool = Field(
        default=True,
        description="Put several examples into one sample, each with positions of its own and blind to the others; "
        "otherwise one example a sample, padded. Plain text is always packed.",
    )


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


class ContinuedRecovery(TrainedRecovery):
    """All weights or the last ones, next-token loss: what training was before the cut."""

    title = "Continued pretraining"
    summary = (
        "All weights, or those of the last blocks, by next-token loss on a text. The strongest where much was removed "
        "and there are many tokens."
    )
    paper = SHORTENED_LLAMA

    kind: Literal["continued"]
    train: Literal["all", "last_blocks"] = Field(
        default="all",
        description="Train all weights, or those of the last blocks with the final norm and the head (Lu et al. 2024, "
        "arXiv 2411.15558), which is quicker and takes less memory.",
    )
    last_blocks: int = LAST_BLOCKS
    epochs: float = Field(default=1, gt=0, le=1000, description="Passes over the training samples.")
    weight_decay: float = Field(default=0.1, ge=0, le=1, description="Decay of the matrices, not of norms and biases.")
    gradient_checkpointing: bool = Field(
        default=True, description="Compute states again in the backward pass, which saves memory and costs a third."
    )


class HealingRecovery(Method):
    """The weights before each cut, and after it, fitted by least squares to what the removed blocks did."""

    title = "Healing"
    summary = (
        "Fits the weights before each cut, and then those after it, by least squares to the original's states. Takes "
        "seconds to minutes and trains nothing; can also come before a training (`heal`)."
    )
    paper = "after Shopkhoev et al. 2025, ReplaceMe, arXiv 2505.02819"

    kind: Literal["healing"]
    text: Text = Field(default_factory=SelfText, description="The text on which is fitted.")
    own_text: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="Where a text is given: the share of the samples that the original writes itself instead, so that "
        "what is fitted holds for other texts too. None are written by a model that is streamed from disk.",
    )
    samples: int = Field(default=192, ge=1, le=100_000, description="Samples, of the text and its own together.")
    tokens: int = Field(default=256, ge=8, le=131_072, description="Tokens per sample.")
    bos: Bos = BOS
    refit: Literal["none", "after_cut"] = Field(
        default="after_cut",
        description="Whether the kept blocks after a cut are fitted anew too, each in turn: the output projection of "
        "the attention, then the down-projection, towards the original's states.",
    )
    neurons: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the neurons of the block before a cut, its weakest, that make room for the strongest of "
        "the removed blocks, where that brings the predictions nearer than its own do. Not for mixtures of experts, "
        "nor where a norm follows the MLP.",
    )
    ridge: float | None = Field(
        default=None,
        gt=0,
        description="How firmly a projection is held to what it was, in units of the mean square of its inputs; "
        "chosen on held-out tokens if absent.",
    )
    rank: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Where a block is trained because no closed form holds for it (a norm after the MLP, or experts): "
        "the rank of what is added to each of its matrices; any change if absent.",
    )
    epochs: int = Field(default=3, ge=1, le=100, description="Where a block is trained: how often it sees the text.")


USUAL_RECOVERY = DistillRecovery  # meant where a spec names none

# The table of recoveries.
Recovery = Annotated[
    NoRecovery  #
    | LoraRecovery
    | DistillRecovery
    | ContinuedRecovery
    | HealingRecovery,
    Field(discriminator="kind"),
    usually(USUAL_RECOVERY, "kind"),
]
