"""How many halves of blocks sub-block pruning may take: the arithmetic that is known before anything is searched.

A block is two units, its attention and its MLP, called "3.attention" and "3.mlp" (Zhong et al. 2024, BlockPruner, arXiv
2406.10594).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from secateur.contract.depth import plus_protected
from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.options.pruning import SubBlockPruning

HALVES = ("attention", "mlp")


def unit_names(blocks: int) -> list[str]:
    """Names of all units of a model of so many blocks, block by block, the attention first."""
    return [f"{block}.{half}" for block in range(blocks) for half in HALVES]


def units_to_remove(pruning: SubBlockPruning, blocks: int) -> int:
    """How many units are asked to go: a ratio is rounded to whole units, to at least one."""
    if pruning.drop is not None:
        return len(pruning.drop)
    if pruning.units is not None:
        return pruning.units
    assert pruning.ratio is not None
    return max(1, round(pruning.ratio * _counted(pruning, blocks)))


def _counted(pruning: SubBlockPruning, blocks: int) -> int:
    """Of how many units a ratio is a fraction."""
    return blocks if pruning.only else len(HALVES) * blocks


def protected_units(pruning: SubBlockPruning, blocks: int) -> list[str]:
    """The units that stay, by name, by the "+" rule, and as halves that may not go, block by block."""
    ends = plus_protected(blocks) if pruning.plus else ()
    named = {*pruning.protected, *(f"{block}.{half}" for block in ends for half in HALVES)}
    kept = [half for half in HALVES if pruning.only not in (None, half)]
    return [unit for unit in unit_names(blocks) if unit in named or unit.partition(".")[2] in kept]


def check_units(pruning: SubBlockPruning, blocks: int, *, pointer: str = "/pruning") -> None:
    """Refuse what a model of `blocks` blocks cannot give.

    Raises:
        InvalidInput: more units than may go, or a unit that the model does not have.
    """
    refuse_unknown([(pruning.drop or (), f"{pointer}/drop"), (pruning.protected, f"{pointer}/protected")], blocks)
    units, kept = len(HALVES) * blocks, len(protected_units(pruning, blocks))
    most, asked = min(units - kept, units - 1), units_to_remove(pruning, blocks)
    if asked <= most:
        return
    name = next(name for name in ("drop", "units", "ratio") if getattr(pruning, name) is not None)
    given = getattr(pruning, name)
    what = f"`{name}` removes {asked} units, and the model has {units}" + (f", {kept} of which stay" if kept else "")
    expected = f"at most {most} units"
    if name == "ratio":
        expected = f"a ratio that removes at most {most} of {_counted(pruning, blocks)} units"
    if most == 0:
        expected = "fewer protected units"
    raise InvalidInput.field(
        f"{pointer}/{name}", what, value=list(given) if isinstance(given, tuple) else given, expected=expected
    )


def refuse_unknown(named: Iterable[tuple[Sequence[str], str]], blocks: int) -> None:
    """Raises InvalidInput: a model of so many blocks lacks a unit; `named` has lists of units with their pointers."""
    errors = [error for units, pointer in named for error in _unknown(units, blocks, pointer)]
    if errors:
        raise InvalidInput(errors[0].detail, errors=errors)


def _unknown(units: Sequence[str], blocks: int, pointer: str) -> list[FieldError]:
    known = set(unit_names(blocks))
    return [
        FieldError(
            f"{pointer}/{i}",
            f"there is no unit {unit}: the model has {blocks} blocks, counted from 0",
            unit,
            f"a unit from 0.attention to {blocks - 1}.mlp",
        )
        for i, unit in enumerate(units)
        if unit not in known
    ]
