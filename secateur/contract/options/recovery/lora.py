"""Options of LoRA."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.papers import SHORTENED_LLAMA
from secateur.contract.options.recovery.trained import ALPHA, DROPOUT, RANK, TrainedRecovery


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
