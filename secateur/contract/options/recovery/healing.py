"""Options of healing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.method import Method
from secateur.contract.options.texts import BOS, Bos, SelfText, Text


class HealingRecovery(Method):
    """A linear map for each cut, fitted by least squares and folded into the weights; nothing is trained."""

    title = "Healing"
    summary = (
        "Fits a linear map for each cut by least squares and folds it into the weights before the cut. Takes seconds "
        "and trains nothing; can also come before a training (`heal`)."
    )
    paper = "Shopkhoev et al. 2025, ReplaceMe, arXiv 2505.02819"

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
