"""Samples a few at a time, so that what a walk holds does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

TOKENS_AT_ONCE = 4096


def batches(ids: Tensor) -> Iterator[tuple[int, Tensor]]:
    """`ids`, (windows, tokens), in pieces of about TOKENS_AT_ONCE tokens, each with the number of its first window."""
    rows = max(1, TOKENS_AT_ONCE // ids.shape[1])
    for start in range(0, len(ids), rows):
        yield start, ids[start : start + rows]
