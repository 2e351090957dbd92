"""Options of continued pretraining."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.papers import SHORTENED_LLAMA
from secateur.contract.options.recovery.trained import TrainedRecovery


class ContinuedRecovery(TrainedRecovery):
    """All weights, next-token loss: what training was before the cut."""

    title = "Continued pretraining"
    summary = (
        "All weights by next-token loss on a text. The strongest where much was removed and there are many tokens."
    )
    paper = SHORTENED_LLAMA

    kind: Literal["continued"]
    epochs: float = Field(default=1, gt=0, le=1000, description="Passes over the training samples.")
    weight_decay: float = Field(default=0.1, ge=0, le=1, description="Decay of the matrices, not of norms and biases.")
    gradient_checkpointing: bool = Field(
        default=True, description="Compute states again in the backward pass, which saves memory and costs a third."
    )
