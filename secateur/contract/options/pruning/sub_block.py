"""Sub-block pruning as a job asks for it: its options, and the arithmetic that is known before anything is searched.

A block is two units, its attention and its MLP, called "3.attention" and "3.mlp" (Zhong et al. 2024, BlockPruner, arXiv
2406.10594).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.depth import plus_protected
from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.options.method import Method
from secateur.contract.options.texts import Calibration

HALVES = ("attention", "mlp")
UnitName = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,5})\.(attention|mlp)$")]


class SubBlockPruning(Method):
    """Exactly one of `units`, `ratio` and `drop` says how much goes."""

    title = "Sub-block pruning"
    summary = (
        "Removes the attention of some blocks and the MLP of others, one by one, each time the one whose loss hurts "
        "least. Finer than whole blocks. What is left loads with a file that lies beside it; a Llama-shaped model also "
        "runs in vLLM and, where attention alone went, in llama.cpp."
    )
    paper = "Zhong et al. 2024, BlockPruner, arXiv 2406.10594"

    kind: Literal["sub_block"]
    units: int | None = Field(
        default=None, ge=1, description="How many units to remove; a block is two, its attention and its MLP."
    )
    ratio: float | None = Field(
        default=None, gt=0, lt=1, description="Fraction of the units to remove; rounded to whole units, at least one."
    )
    drop: tuple[UnitName, ...] | None = Field(
        default=None,
        min_length=1,
        description="These very units, blocks counted from 0; nothing is searched.",
        examples=[["3.attention", "5.mlp"]],
    )
    only: Literal["attention", "mlp"] | None = Field(
        default=None,
        description="Which half may go. `attention` alone shrinks the cache, and leaves a Llama-shaped model that vLLM "
        "and llama.cpp run. `ratio` is then a fraction of these halves.",
    )
    plus: bool = Field(
        default=False,
        description='The "+" rule: both halves of the first four and of the last two blocks are never removed.',
    )
    protected: tuple[UnitName, ...] = Field(
        default=(), description="Units that are never removed.", examples=[["0.attention", "0.mlp"]]
    )
    calibration: Calibration = Field(
        default_factory=Calibration, description="The text on which the loss without a unit is taken."
    )

    @model_validator(mode="after")
    def _one_of(self) -> SubBlockPruning:
        given = [name for name in ("units", "ratio", "drop") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "exactly_one",
                "give exactly one of `units`, `ratio` and `drop`, not {given}",
                {"given": " and ".join(given) or "none", "expected": "one of units, ratio, drop"},
            )
        for name in ("drop", "protected"):
            names = getattr(self, name) or ()
            if len(set(names)) != len(names):
                raise PydanticCustomError(
                    "duplicate_units",
                    "`{field}` names a unit twice",
                    {"field": name, "expected": "distinct units"},
                )
        return self

    @model_validator(mode="after")
    def _no_search_of_what_is_named(self) -> SubBlockPruning:
        """Options of the search would be passed over where the units are named."""
        if self.drop is None:
            return self
        given = {
            "only": self.only is not None,
            "plus": self.plus,
            "protected": bool(self.protected),
            "calibration": self.calibration != Calibration(),
        }
        name = next((name for name, set_ in given.items() if set_), None)
        if name is not None:
            raise PydanticCustomError(
                "search_of_named_units",
                "`{field}` is for the search, and `drop` names the units",
                {"field": name, "expected": f"no `{name}`, or `units` or `ratio` instead of `drop`"},
            )
        return self


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
    errors = [
        *_unknown(pruning.drop or (), blocks, f"{pointer}/drop"),
        *_unknown(pruning.protected, blocks, f"{pointer}/protected"),
    ]
    if errors:
        raise InvalidInput(errors[0].detail, errors=errors)
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
