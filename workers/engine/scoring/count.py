"""How many blocks may go: asked by the criteria that search for a set of them, and where blocks are chosen."""

from __future__ import annotations

from collections.abc import Collection

from secateur.contract.errors import InvalidInput


def check_count(n_blocks: int, *, count: int, protected: Collection[int]) -> None:
    """Raise InvalidInput unless `count` blocks can go, one block at least stays, and none is protected."""
    free = min(n_blocks - len(set(protected)), n_blocks - 1)
    if 1 <= count <= free:
        return
    kept = f", of which {len(set(protected))} are protected" if protected else ""
    raise InvalidInput.field(
        "blocks",
        f"{count} blocks cannot be removed from a model of {n_blocks} blocks{kept}.",
        value=count,
        expected=f"from 1 to {free} blocks" if free else "a model with more blocks, or fewer of them protected",
    )
