"""One projection of a block fitted to the states that should follow it, and a block run with what it is to change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from workers.engine.healing.least_squares import FittedChange, HeldOut, Sums, fit_change
from workers.engine.healing.projections import BlockChange, Projection, changed, watched
from workers.engine.healing.state_error import ChannelScale
from workers.engine.model.block_model import Block


@dataclass(frozen=True)
class Aim:
    """States that enter a block, and those that should follow, in pieces of (samples, tokens, hidden)."""

    states: Sequence[Tensor]
    targets: Sequence[Tensor]


def fit_projection(
    block: Block,
    projection: Projection,
    *,
    down: Projection,
    fitted: Aim,
    held: Aim,
    change: BlockChange | None = None,
    ridge: float | None = None,
) -> FittedChange:
    """The change of the projection that brings the states nearest to their targets.

    Args:
        down: the block's down-projection. Another projection's targets are of the states before that one's output.
        held: of samples that are not fitted on.
        change: what the block has been given before.
        ridge: as `fit_change` takes it.

    Raises:
        StageFailed: as `fit_change`.
    """
    scale = ChannelScale.of(fitted.targets)
    sums, judged = Sums(), HeldOut(scale.weights)
    for aim, add in ((fitted, sums.add), (held, judged.add)):
        for piece in lacking(block, projection, down, aim, change or {}, scale):
            add(*piece)
    return fit_change(sums, judged, ridge=ridge)


def lacking(
    block: Block, projection: Projection, down: Projection, aim: Aim, change: BlockChange, scale: ChannelScale
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """What the projection takes, what the state after it lacks, and the tokens' weights, piece by piece."""
    before_mlp = projection.path != down.path
    with changed(block.module, change), watched(block.module, {projection.path, down.path}) as seen:
        for state, target in zip(aim.states, aim.targets, strict=True):
            left = block(state)
            if before_mlp:
                left = left - down.added(seen[down.path], left)
            wanted = target.float().flatten(0, 1)
            lacks = wanted - left.float().flatten(0, 1)
            yield projection.inputs(seen[projection.path]), lacks, scale.token_weights(wanted)


def through(block: Block, states: Sequence[Tensor], change: BlockChange) -> list[Tensor]:
    """The states that leave the block with the change."""
    with changed(block.module, change):
        return [block(state) for state in states]
