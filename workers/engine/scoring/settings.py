"""Options that searches share: how many blocks will go, and which may not.

Most criteria score each block alone and need neither. A search (greedy, runs, evolution, racing) decides within its
bounds, so they come in as options: `count` and `protected`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from secateur.contract.errors import InvalidInput
from workers.engine.pruning.plan import check_count


def count_and_protected(options: Mapping[str, Any], n_blocks: int) -> tuple[int, frozenset[int]]:
    """`options["count"]` and `options["protected"]` (none by default).

    Raises:
        InvalidInput: there is no count, or more blocks are to go than may.
    """
    protected = frozenset(int(block) for block in options.get("protected", ()))
    count = options.get("count")
    if not isinstance(count, int) or isinstance(count, bool):
        raise InvalidInput.field(
            "/pruning/blocks",
            "This criterion searches for a set of blocks, so it must know how many go.",
            value=count,
            expected="a number of blocks",
        )
    check_count(n_blocks, count=count, protected=protected)
    return count, protected


def require_ids(ids: Tensor | None) -> Tensor:
    """The calibration tokens, for a criterion that needs them.

    Raises:
        InvalidInput: there are none.
    """
    if ids is None:
        raise InvalidInput.field(
            "/scoring/calibration",
            "This criterion needs calibration text.",
            expected="samples of text",
        )
    return ids
