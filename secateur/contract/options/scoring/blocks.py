"""What criteria have in common: they judge whole blocks, most of them on a text."""

from __future__ import annotations

from pydantic import Field

from secateur.contract.options.method import Method
from secateur.contract.options.texts import Calibration


class BlockScoring(Method):
    """What all criteria have in common."""

    criterion: str
    plus: bool = Field(
        default=True,
        description='The "+" rule: the first four and the last two blocks are never removed.',
    )

    @property
    def searches(self) -> bool:
        """Whether it looks for a set of blocks, so that its scores depend on how many go and on which may not."""
        return False


class TextScoring(BlockScoring):
    """What criteria have in common that judge on a text."""

    calibration: Calibration = Field(default_factory=Calibration)
