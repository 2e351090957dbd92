"""What the options of all ways to quantise have in common."""

from __future__ import annotations

from typing import Literal

from secateur.contract.options.method import Method

GROUP_SIZES = Literal[16, 32, 64, 128, 256]


class VariantOptions(Method):
    """Each way makes one more variant of the final model, whose name ends in `variant`: "recovered-int8"."""

    kind: str

    @property
    def variant(self) -> str:
        """The end of the variant's name, which tells it from others of one job."""
        raise NotImplementedError

    @property
    def path(self) -> str:
        """Where it lies in the stage's folder: a checkpoint folder, or a file."""
        return f"{self.variant}/checkpoint"


class IntegerOptions(VariantOptions):
    """Ways that give integers with a scale for each group of weights."""

    group_size: int | None
