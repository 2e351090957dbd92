"""Tensors on disk as they are known before they are read: by name, by shape, and whether two are the same.

What `Checkpoint` itself asks while it opens takes this in place of one, so that neither file needs the other.
"""

from __future__ import annotations

from typing import Protocol


class StoredTensors(Protocol):
    def names(self) -> list[str]:
        """All tensors, in the order of their bytes."""
        ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def same_values(self, one: str, other: str) -> bool:
        """Whether two tensors hold the same numbers, whatever their dtypes."""
        ...
