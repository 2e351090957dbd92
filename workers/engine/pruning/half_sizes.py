"""What each half of each block weighs: parameters, or bytes on disk, as `prune_sub_block` leaves them out."""

from __future__ import annotations

from collections.abc import Mapping

from workers.engine.checkpoints.block_names import block_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.reduced_blocks import HALVES_OF_A_BLOCK
from workers.engine.pruning.depth import stack_of
from workers.engine.pruning.sub_block import goes_with
from workers.engine.pruning.sub_block_layout import halves_layout


def half_sizes(source: Checkpoint, *, in_bytes: bool) -> Mapping[tuple[int, str], int]:
    """(Block, half) → its size. What serves both halves of a block is in neither.

    Raises:
        UnsupportedModel: as `halves_layout`.
    """
    layout = halves_layout(source)
    if not in_bytes:
        return {
            (block, half): layout.removed_parameters(block, half)
            for block in range(len(layout.parameters))
            for half in HALVES_OF_A_BLOCK
        }
    prefix, count = stack_of(source, layout.architecture)
    found: dict[tuple[int, str], int] = {(block, half): 0 for block in range(count) for half in HALVES_OF_A_BLOCK}
    for name in source.names():
        block = block_of(name, prefix)
        if block is None or block >= count:
            continue
        for half in HALVES_OF_A_BLOCK:
            if goes_with(name, prefix, {block: half}, layout):
                found[block, half] += source.nbytes(name)
    return found
