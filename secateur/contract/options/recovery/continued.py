"""Options of continued pretraining."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.papers import SHORTENED_LLAMA
from secateur.contract.options.recovery.trained import LAST_BLOCKS, TrainedRecovery


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
