"""How to train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; what is trained is which parameters of the model require a gradient."""

    learning_rate: float
    batch_size: int
    micro_batch_size: int
    epochs: float
    warmup_steps: int
    checkpoint_steps: int
    max_steps: int | None = None
    max_tokens: int | None = None
    max_minutes: float | None = None
    patience: int | None = None
    schedule: Literal["linear", "cosine"] = "linear"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    autocast: bool = False  # compute in bf16 while the weights are fp32
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    shard: bool = False  # where several processes train: each holds a part of weights, gradients and moments
