"""From scores to the blocks that go: the order of a criterion, less what is protected, cut at the count.

The "+" rule is of Shortened LLaMA (Kim et al. 2024, arXiv 2402.02834): the first four and the last two blocks stay.
It belongs here and not to a criterion, since any criterion takes it.
"""

from __future__ import annotations

from collections.abc import Collection

from secateur.contract.depth import plus_protected
from secateur.contract.errors import InvalidInput
from workers.engine.scoring.count import check_count
from workers.engine.scoring.result import BlockScores


def protected_by_plus(n_blocks: int) -> frozenset[int]:
    """The blocks that the "+" rule keeps: {0, 1, 2, 3, n - 2, n - 1}."""
    return frozenset(plus_protected(n_blocks))


def count_from_ratio(n_blocks: int, ratio: float) -> int:
    """How many blocks a ratio removes: rounded to whole blocks, at least one.

    Raises:
        InvalidInput: the ratio is not between 0 and 1, both excluded, or leaves no block.
    """
    if not 0 < ratio < 1:
        raise InvalidInput.field(
            "ratio",
            f"A ratio of {ratio} cannot be removed.",
            value=ratio,
            expected="a number between 0 and 1, both excluded",
        )
    count = max(1, round(ratio * n_blocks))
    if count >= n_blocks:
        raise InvalidInput.field(
            "ratio",
            f"A ratio of {ratio} removes all {n_blocks} blocks.",
            value=ratio,
            expected="a ratio that leaves at least one block",
        )
    return count


def choose_blocks(scores: BlockScores, *, count: int, protected: Collection[int]) -> list[int]:
    """The first `count` blocks of the order that are not protected, in the order of removal.

    Raises:
        InvalidInput: over `blocks`, when fewer than `count` blocks may go.
    """
    check_count(len(scores.values), count=count, protected=protected)
    free = [block for block in scores.order if block not in protected]
    if count > len(free):
        raise InvalidInput.field(
            "blocks",
            f"{count} blocks are to be removed, and the criterion ranked {len(free)}.",
            value=count,
            expected=f"at most {len(free)} blocks",
        )
    return free[:count]
