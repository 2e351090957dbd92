"""What joint pruning may take from each block, and how much a target asks it to save: known before anything is judged.

A part is what may go from one block: its attention, its MLP, or all of it. Parts of a block exclude each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from secateur.contract.depth import plus_protected
from secateur.contract.errors import InvalidInput
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.target import Target
from secateur.contract.sub_blocks import HALVES, refuse_unknown
from secateur.contract.targets import POINTER, SIZE_UNITS, Sizes, as_large, limit_of

WHOLE = "block"  # what goes, where both halves do


@dataclass(frozen=True)
class Part:
    """What may go from one block."""

    block: int
    goes: str  # "attention", "mlp" or WHOLE
    saved: int  # in whole units of what the target asks for

    @property
    def units(self) -> tuple[str, ...]:
        """The halves that go, by name: "3.attention"."""
        return tuple(f"{self.block}.{half}" for half in HALVES if self.goes in (half, WHOLE))


def parts_of(pruning: JointPruning, blocks: int, saved: Callable[[int, str], int]) -> list[Part]:
    """What may go from a model of so many blocks, block by block; `saved` tells what that saves."""
    ends = plus_protected(blocks) if pruning.plus else ()
    kept = {*pruning.protected, *(f"{block}.{half}" for block in ends for half in HALVES)}
    found = []
    for block in range(blocks):
        for goes in (*HALVES, WHOLE):
            part = Part(block, goes, saved(block, goes))
            if goes in pruning.choices and part.saved > 0 and kept.isdisjoint(part.units):
                found.append(part)
    return found


def largest(parts: Iterable[Part], blocks: int) -> list[Part]:
    """The choice that saves most, if one block of so many stays at least in part."""
    best: dict[int, Part] = {}
    in_part: dict[int, Part] = {}  # where the block does not go whole
    for part in parts:
        for found in (best,) if part.goes == WHOLE else (best, in_part):
            if part.block not in found or part.saved > found[part.block].saved:
                found[part.block] = part
    if sum(part.goes == WHOLE for part in best.values()) == blocks:
        lost = {block: part.saved - (in_part[block].saved if block in in_part else 0) for block, part in best.items()}
        stays = min(lost, key=lambda block: (lost[block], block))
        best = {block: part for block, part in best.items() if block != stays}
        best |= {stays: in_part[stays]} if stays in in_part else {}
    return list(best.values())


def saved_by(parts: Iterable[Part]) -> int:
    """By all of them together."""
    return sum(part.saved for part in parts)


def check_joint(pruning: JointPruning, blocks: int, *, pointer: str = "/pruning") -> None:
    """Refuse what a model of `blocks` blocks cannot give; whether it can reach the target, its sizes tell.

    Raises:
        InvalidInput: a protected half that the model does not have, or nothing that may go.
    """
    refuse_unknown([(pruning.protected, f"{pointer}/protected")], blocks)
    if not largest(parts_of(pruning, blocks, lambda block, goes: 1), blocks):
        field = "plus" if pruning.plus else "choices"
        raise InvalidInput.field(
            f"{pointer}/{field}",
            f"nothing may go from any of the model's {blocks} blocks",
            value=getattr(pruning, field) if pruning.plus else list(pruning.choices),
            expected="a larger model, fewer protected halves, or more choices",
        )


def needed_of(target: Target, sizes: Sizes, parts: Sequence[Part]) -> int:
    """What parts have to save together until the model is no larger than a counted target.

    Raises:
        InvalidInput: it is as small already, or not even without all that may go.
    """
    limit = int(limit_of(target, sizes.whole))
    if limit >= sizes.whole:
        raise as_large(target, sizes.whole)
    left = sum(sizes.per_block) + sizes.rest  # parts that go with any block are gone
    most = saved_by(largest(parts, len(sizes.per_block)))
    if left - most > limit:
        raise too_large(target, left - most, sizes.whole)
    return max(1, left - limit)


def too_large(target: Target, left: int, whole: int) -> InvalidInput:
    """The error for a target that a model of the size `whole` misses even without all that may go."""
    least = f"{ceil(1000 * left / whole) / 1000:g}" if target.share else f"{left:,}"
    return InvalidInput.field(
        f"{POINTER}/{target.figure}",
        f"the model has {left:,} {SIZE_UNITS[target.figure]} even without all that may go",
        value=target.value,
        expected=f"at least {least}, fewer protected halves, or more choices",
    )


def units_of(parts: Iterable[Part]) -> list[str]:
    """The halves that go with these parts."""
    return [unit for part in parts for unit in part.units]
