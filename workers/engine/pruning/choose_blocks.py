"""From scores to the blocks that go: the order of a criterion, less what is protected, cut at the count.

What is protected belongs here and not to a criterion, since any criterion takes it: the "+" rule, for one
(`secateur/contract/depth.py`).
"""

from __future__ import annotations

from collections.abc import Collection

from secateur.contract.errors import InvalidInput
from workers.engine.scoring.count import check_count
from workers.engine.scoring.result import BlockScores


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
