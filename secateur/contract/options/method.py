"""What every object of a spec is: frozen and closed. A method says of itself what the catalogue shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError


class Options(BaseModel):
    """Frozen, and closed: a field that does not exist is an error, not a shrug. No number is infinite or NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Method(Options):
    """One method that a job may name, by the fields of its object in the spec and their defaults.

    The class has all that is known of a method without computing: what `GET /catalog` shows of it stands here and
    nowhere else. The file of each section of a spec has its methods, and at its end their table: the union of types
    that the section is.
    """

    title: ClassVar[str]
    summary: ClassVar[str]  # one or two sentences: what it does and when to choose it
    paper: ClassVar[str]  # where the formula comes from


def require_one(options: Options, names: Sequence[str], listed: str) -> None:
    """Raise PydanticCustomError unless exactly one of these fields is given; `listed` names them in words."""
    given = [name for name in names if getattr(options, name) is not None]
    if len(given) != 1:
        raise PydanticCustomError(
            "exactly_one",
            "give exactly one of {names}, not {given}",
            {"names": listed, "given": " and ".join(given) or "none", "expected": f"one of {', '.join(names)}"},
        )


def usually(usual: type[Method], tag: str) -> BeforeValidator:
    """For a section of a spec: names the usual method in an object that names none."""
    name = usual.model_fields[tag].default

    def named(given: Any) -> Any:
        return {tag: name, **given} if isinstance(given, Mapping) else given

    return BeforeValidator(named)
