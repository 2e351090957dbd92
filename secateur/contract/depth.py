"""How many blocks depth pruning may take: the arithmetic that is known before anything is scored.

The "+" rule is of Shortened LLaMA (Kim et al. 2024, arXiv 2402.02834, section 3.1): the first four and the last two
blocks stay, since a model without them hardly recovers.
"""

from __future__ import annotations

from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.options.pruning import DepthPruning

PLUS_FIRST = 4
PLUS_LAST = 2


def plus_protected(blocks: int) -> tuple[int, ...]:
    """The blocks that the "+" rule keeps in a model of `blocks` blocks, ascending."""
    first = min(PLUS_FIRST, blocks)
    return (*range(first), *range(max(first, blocks - PLUS_LAST), blocks))


def most_that_may_go(blocks: int, *, plus: bool) -> int:
    """How many of `blocks` blocks may go at most: one stays in any case, and with the "+" rule those that it keeps."""
    return max(0, blocks - len(plus_protected(blocks)) if plus else blocks - 1)


def blocks_to_remove(pruning: DepthPruning, blocks: int) -> int:
    """How many of `blocks` blocks are asked to go, where the spec counts them: a ratio is rounded, to at least one."""
    if pruning.drop is not None:
        return len(pruning.drop)
    if pruning.blocks is not None:
        return pruning.blocks
    assert pruning.ratio is not None
    return max(1, round(pruning.ratio * blocks))


def check_depth(pruning: DepthPruning, blocks: int, *, plus: bool, pointer: str = "/pruning") -> None:
    """Refuse what a model of `blocks` blocks cannot give; whether it can reach a target, its sizes tell (`targets.py`).

    Raises:
        InvalidInput: more blocks than may go, or a block that the model does not have.
    """
    if pruning.drop is not None:
        _check_drop(pruning.drop, blocks, pointer)
        return
    if pruning.target is not None or pruning.left_open:
        return
    name = "blocks" if pruning.blocks is not None else "ratio"
    value = pruning.blocks if pruning.blocks is not None else pruning.ratio
    asked = blocks_to_remove(pruning, blocks)
    free = most_that_may_go(blocks, plus=plus)
    if asked <= free:
        return
    what = f"`{name}` removes {asked} blocks, and the model has {blocks}" + (
        f', of which the "+" rule keeps {blocks - free}' if plus and asked < blocks else ""
    )
    expected = (
        f"at most {free} blocks" if name == "blocks" else f"a ratio that removes at most {free} of {blocks} blocks"
    )
    if plus and asked < blocks:
        expected += ', or "plus": false in `scoring`'
    if free == 0:
        expected = 'a larger model, or "plus": false in `scoring`' if plus else "a model of at least 2 blocks"
    raise InvalidInput.field(f"{pointer}/{name}", what, value=value, expected=expected)


def not_gguf() -> InvalidInput:
    """The error for a job that asks for a pruned GGUF file of a model that is none."""
    return InvalidInput.field(
        "/pruning/gguf",
        "only a model that is a .gguf file can be pruned as one",
        value=True,
        expected="a local .gguf file as the model, or no `gguf`",
    )


def _check_drop(drop: tuple[int, ...], blocks: int, pointer: str) -> None:
    errors = [
        FieldError(
            f"{pointer}/drop/{i}",
            f"there is no block {block}: the model has {blocks}, counted from 0",
            block,
            f"a block from 0 to {blocks - 1}",
        )
        for i, block in enumerate(drop)
        if block >= blocks
    ]
    if not errors and len(drop) >= blocks:
        detail = f"`drop` names all {blocks} blocks of the model"
        errors = [FieldError(f"{pointer}/drop", detail, list(drop), f"at most {blocks - 1} blocks")]
    if errors:
        raise InvalidInput(errors[0].detail, errors=errors)
