"""How byte-pair encoding cuts a run of one character, which tells two orders of merges apart where tokens tie."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise


def cut_run(length: int, ranks: Mapping[tuple[int, int], float]) -> list[int]:
    """How a run of one character is cut, as lengths of tokens: the pair of the lowest rank first, then the leftmost."""
    pieces = [1] * length
    while found := [(ranks[pair], at) for at, pair in enumerate(pairwise(pieces)) if pair in ranks]:
        _, at = min(found)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces


def cut_alike(first: Mapping[tuple[int, int], float], second: Mapping[tuple[int, int], float]) -> bool:
    """Whether runs of any length are cut alike by two orders of the same pairs, told by their lengths."""
    longest = max(left + right for left, right in first)
    return all(cut_run(length, first) == cut_run(length, second) for length in range(2, 2 * longest + 2))
