"""How many blocks have to go until a model is as small as a target asks: the same number wherever it is worked out.

Sizes are counted and not measured, so the answer is exact. Which blocks go is known only when they have been scored.
Where blocks differ in size, as many go as are enough even if they are the smallest of those that may.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from secateur.contract.depth import most_that_may_go, plus_protected
from secateur.contract.errors import InvalidInput
from secateur.contract.models.formulas import ParameterCount
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.target import Target

POINTER = "/pruning/target"
CONSTRAINTS = "/pruning/constraints"


@dataclass(frozen=True)
class Sizes:
    """A model's size by place, in the target's own unit: parameters, or bytes of weights."""

    per_block: Sequence[int]
    rest: int  # of all that stays, whichever blocks go
    whole: int  # of the original; more than the sum, where parts go with any block

    @classmethod
    def of(cls, count: ParameterCount, *, width: int = 1) -> Sizes:
        """Parameters, each of `width` bytes."""
        blocks = [width * size for size in count.per_block]
        return cls(blocks, width * count.total - sum(blocks), width * count.total)


def limit_of(target: Target, original: float) -> float:
    """The figure that is asked for; a share of the original's is rounded down to a whole number."""
    return int(target.value * original) if target.share else target.value


def blocks_for_size(target: Target, sizes: Sizes, *, plus: bool, pointer: str = POINTER) -> int:
    """The least number of blocks that have to go until the model is no larger than the target.

    Raises:
        InvalidInput: it is as small already, or not even without all blocks that may go.
    """
    place, unit = f"{pointer}/{target.figure}", SIZE_UNITS[target.figure]
    limit = limit_of(target, sizes.whole)
    if limit >= sizes.whole:
        raise as_large(target, sizes.whole, pointer=pointer)
    blocks = len(sizes.per_block)
    protected = plus_protected(blocks) if plus else ()
    free = sorted(size for block, size in enumerate(sizes.per_block) if block not in protected)
    left = sum(sizes.per_block) + sizes.rest
    most = most_that_may_go(blocks, plus=plus)
    for count, size in enumerate(free[:most], start=1):
        left -= size
        if left <= limit:
            return count
    raise _too_small(target, place, unit, left=left, most=most, sizes=sizes, plus=plus)


def as_large(target: Target, whole: int, *, pointer: str = POINTER) -> InvalidInput:
    """The error for a target that the original, of the size `whole`, reaches as it is."""
    return InvalidInput.field(
        f"{pointer}/{target.figure}",
        f"the model has no more than {whole:,} {SIZE_UNITS[target.figure]} as it is",
        value=target.value,
        expected=f"fewer than {whole:,}, or a share below 1",
    )


def none_may_go(pruning: DepthPruning, blocks: int, *, plus: bool) -> InvalidInput:
    """The error for a model that is too shallow for any block to go."""
    kept = f', and the "+" rule keeps {blocks}' if plus else ", and one has to stay"
    expected = 'a larger model, or "plus": false in `scoring`' if plus else "a model of at least 2 blocks"
    detail = f"none of the model's {blocks} blocks may go{kept}"
    if pruning.target is not None:
        target = pruning.target
        return InvalidInput.field(f"{POINTER}/{target.figure}", detail, value=target.value, expected=expected)
    if pruning.best_draft:
        return InvalidInput.field("/pruning/maximise", detail, value=pruning.maximise, expected=expected)
    limits = pruning.constraints.limits if pruning.constraints is not None else None
    return InvalidInput.field(CONSTRAINTS, detail, value=limits, expected=expected)


def _too_small(
    target: Target, place: str, unit: str, *, left: int, most: int, sizes: Sizes, plus: bool
) -> InvalidInput:
    blocks = len(sizes.per_block)
    if most == 0:
        return none_may_go(DepthPruning(target=target), blocks, plus=plus)
    kept = f', and the "+" rule keeps {blocks - most}' if plus else ", and one has to stay"
    detail = f"the model has {left:,} {unit} even without {most} of its {blocks} blocks{kept}"
    least = f"{ceil(1000 * left / sizes.whole) / 1000:g}" if target.share else f"{left:,}"
    expected = f"at least {least}" + (', or "plus": false in `scoring`' if plus else "")
    return InvalidInput.field(place, detail, value=target.value, expected=expected)


SIZE_UNITS = {"parameters": "parameters", "bytes": "bytes of weights"}
