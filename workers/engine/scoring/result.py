"""What a criterion hands back: a value per block, its standard error, and the order of removal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secateur.contract.errors import StageFailed


@dataclass(frozen=True)
class BlockScores:
    """Scores of all blocks of a model by one criterion."""

    values: list[float | None]  # one per block; None where the criterion gives this block no value
    standard_errors: list[float | None] | None  # of the values, where they are means or sums over samples
    order: list[int]  # blocks from the first to be removed on; a search lists only what it decided
    details: dict[str, Any] = field(default_factory=dict)  # the criterion's own: passes, rounds, settings

    @classmethod
    def lowest_first(
        cls,
        values: Sequence[float | None],
        *,
        standard_errors: Sequence[float | None] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> BlockScores:
        """Scores of which the lowest is the least important block: sorting them gives the order of removal.

        Raises:
            StageFailed: a score is not a number; an infinite one is in order.
        """
        check_numbers(values)
        return cls(
            values=list(values),
            standard_errors=None if standard_errors is None else list(standard_errors),
            order=ascending(values),
            details=dict(details or {}),
        )


def check_numbers(values: Sequence[float | None]) -> None:
    """Raise StageFailed if a score is NaN: it has no place in an order."""
    for block, value in enumerate(values):
        if value is not None and math.isnan(value):
            raise StageFailed(
                f"The score of block {block} is not a number. The weights are broken, or the arithmetic overflowed: "
                'score in "float32" or "bfloat16".'
            )


def ascending(values: Sequence[float | None]) -> list[int]:
    """Block numbers by value, the lowest first; of equal values the earlier block first, blocks without one last.

    >>> ascending([3.0, None, 1.0, 3.0])
    [2, 0, 3, 1]
    """
    return sorted(range(len(values)), key=lambda block: (values[block] is None, values[block] or 0.0, block))
