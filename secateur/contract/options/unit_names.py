"""What the halves of blocks are called in a spec: "3.attention", "5.mlp"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import StringConstraints
from pydantic_core import PydanticCustomError

UnitName = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,5})\.(attention|mlp)$")]


def refuse_twins(field: str, names: Sequence[str]) -> None:
    """Raise PydanticCustomError if a field names a unit twice."""
    if len(set(names)) != len(names):
        raise PydanticCustomError(
            "duplicate_units", "`{field}` names a unit twice", {"field": field, "expected": "distinct units"}
        )
