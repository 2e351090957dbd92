"""Where whole blocks are gone: the blocks that stand before a cut, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence


def cut_ends(kept: Sequence[int], n_blocks: int) -> dict[int, int]:
    """For each kept block that stands before a cut, the last block of the cut.

    >>> cut_ends([0, 1, 4, 6], 8)
    {1: 3, 4: 5, 6: 7}
    """
    following = [*kept[1:], n_blocks]
    return {block: after - 1 for block, after in zip(kept, following, strict=True) if after != block + 1}
