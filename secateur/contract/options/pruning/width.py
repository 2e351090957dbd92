"""What the options of all width methods have in common."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.method import Method
from secateur.contract.options.texts import Calibration


class WidthPruning(Method):
    """What all width methods have in common: every block stays, and loses heads and neurons."""

    kind: str
    ratio: float = Field(gt=0, lt=1, description="Fraction of all parameters to remove, embeddings included.")
    multiple: Literal[1, 8, 64, 128] = Field(
        default=1, description="Neurons of each block come in multiples of this, which suits some hardware better."
    )
    calibration: Calibration  # each method has its own default

    @property
    def uneven(self) -> bool:
        """Whether blocks may keep different numbers of heads and neurons."""
        return False

    @property
    def compensated(self) -> bool:
        """Whether biases make up for what the pruned channels gave on average."""
        return False


UNIFORM = Field(
    default=True,
    description="Every block keeps the same numbers of heads and neurons, so that transformers loads the checkpoint as "
    "it is. Otherwise they differ as the method has it, and a small loader is shipped beside the weights.",
)
