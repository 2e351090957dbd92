"""What a tokenizer.json says, in the forms in which different versions of the library have written it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merges_of(written: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The merges of byte-pair encoding, first to last."""
    pairs = (pair if isinstance(pair, list) else pair.split(" ", 1) for pair in written["model"].get("merges", []))
    return [(left, right) for left, right in pairs]
