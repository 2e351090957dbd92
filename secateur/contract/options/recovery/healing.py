"""Options of healing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.method import Method
from secateur.contract.options.texts import BOS, Bos, SelfText, Text


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
