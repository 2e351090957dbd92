"""Sizes of the original and of what is left of it, and the speedup that follows from what each token reads.

At batch 1 each generated token reads every weight once, and that reading is what takes the time (Kim et al. 2024,
Shortened LLaMA, arXiv 2402.02834, section 1). So the speedup is the ratio of what is read: all blocks and the head
before, over those that stay and the head. That leaves out overheads and the cache.
"""

from __future__ import annotations

from dataclasses import dataclass

from secateur.contract.estimates.model import KnownModel
from secateur.contract.estimates.removal import Removal, read_for_a_token


@dataclass(frozen=True)
class Size:
    """One model."""

    blocks: int
    parameters: int
    bytes: int | None  # of the checkpoint's tensors
    kv_bytes_per_token: int  # of one sequence


def original_size(model: KnownModel, *, width: int) -> Size:
    """`width`: bytes of a number in the arithmetic of the stages."""
    blocks = len(model.count.blocks)
    stored = None if model.stored is None else model.stored.total
    return Size(blocks, model.count.total, stored, blocks * model.cached * width)


def pruned_size(model: KnownModel, removal: Removal, *, width: int) -> Size:
    blocks = len(model.count.blocks)
    return Size(
        blocks=blocks - removal.blocks,
        parameters=model.count.total - removal.parameters,
        bytes=None if model.stored is None or removal.bytes is None else model.stored.total - removal.bytes,
        kv_bytes_per_token=round((blocks - removal.cache) * model.cached * width),
    )


def speedup_by_bytes(model: KnownModel, removal: Removal) -> float | None:
    """Of generation at batch 1."""
    read = read_for_a_token(model)
    return None if removal.read >= read else read / (read - removal.read)


def basis_in_words(*, narrower: bool, fewer_tokens: bool) -> str:
    """What `speedup_by_bytes` rests on.

    Args:
        narrower: whether every block stays, with less in it.
        fewer_tokens: whether tokens go, so that the same text takes more of those that stay.
    """
    words = "weights that each generated token reads at batch 1, before and after"
    if fewer_tokens:
        return f"{words}; of each token, of which the same text takes more than before"
    if narrower:
        return f"{words}; all blocks stay, and with them what each costs beside its reading, so it may well be less"
    return words
