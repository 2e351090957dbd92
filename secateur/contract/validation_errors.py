"""pydantic's errors → field errors that a user can act on.

pydantic says where it stood in its own terms: a location holds the tags of the unions that it passed through, and a
message speaks of "inputs" and "tags". Here a location is walked along the model's own annotations, which gives the JSON
pointer into what was sent, the class that rejected a field, and so the names that would have been right. What is
expected is told by the annotation there (`expectations.py`); pydantic's own words are not repeated.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import core_schema

from secateur.contract.catalog import near_name
from secateur.contract.errors import FieldError
from secateur.contract.expectations import bare, expected_at, members_of, one_of
from secateur.contract.shown import SHOWN_CHARACTERS, shown

Errors = Iterable[Mapping[str, Any]]  # as ValidationError.errors() lists them

PYDANTICS = frozenset(get_args(core_schema.ErrorType))  # other kinds are rules of our own, and so are their words
_RAISED = {"value_error": "Value error, ", "assertion_error": "Assertion failed, "}  # by a function: ours as well
_MORE = {  # what a value of this type has to be besides
    "finite_number": (float, "neither infinite nor NaN"),
    "string_unicode": (str, "without half of a surrogate pair"),
}


@dataclass(frozen=True)
class _Place:
    parts: tuple[str, ...]  # of the JSON pointer
    owner: type[BaseModel] | None = None  # the model that has, or refuses, the last part
    annotation: Any = None  # of the value at the place, without Annotated; None where unknown
    limits: tuple[Any, ...] = field(default=())

    @property
    def expected(self) -> str:
        return expected_at(self.annotation, self.limits)


def field_errors(model: type[BaseModel], errors: Errors) -> list[FieldError]:
    """What pydantic's `errors` on a value for `model` say, each thing once; knock-on errors are left out.

    A value that may have several shapes is told of once, and not for each of them.
    """
    found = [_explain_one(_locate(model, error["loc"]), error) for error in errors if not _knock_on(error)]
    return list({(error.pointer, error.detail): error for error in found}.values())


def pointer_of(parts: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) of a path: `["a/b", 0]` → "/a~1b/0"."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _knock_on(error: Mapping[str, Any]) -> bool:
    """pydantic counts a list as too short when its items were refused, which are errors of their own."""
    return bool(error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"])


# --- where ---------------------------------------------------------------------------------------------------


def _locate(model: type[BaseModel], loc: Sequence[str | int]) -> _Place:
    place, key = _Place((), None, model), False
    for step, after in itertools.zip_longest(loc, loc[1:]):
        if key:  # the step says only that the one before it was a key
            break
        key = after == "[key]"
        if place.annotation is not None:
            place = _beneath(place, step, key=key)
        elif isinstance(step, int):
            place = _Place((*place.parts, str(step)))
    return place


def _beneath(place: _Place, step: str | int, *, key: bool) -> _Place:
    here, parts = place.annotation, (*place.parts, str(step))
    inner = get_args(here)
    if isinstance(here, type) and issubclass(here, BaseModel):
        found = here.model_fields.get(str(step))
        annotation, limits = bare(found.annotation) if found else (None, [])
        return _Place(parts, here, annotation, (*(found.metadata if found else ()), *limits))
    if get_origin(here) in (tuple, list, set, frozenset):
        return _at(parts, inner[0])
    if get_origin(here) is dict:
        return _at(parts, inner[0] if key else inner[1])
    members = members_of(here)
    if members:  # the step is a tag, which is no part of what was sent
        return _Place(place.parts, place.owner, members.get(str(step)))
    return place  # within a union of other things, whose steps are pydantic's own names for them


def _at(parts: tuple[str, ...], annotation: Any) -> _Place:
    annotation, limits = bare(annotation)
    return _Place(parts, None, annotation, tuple(limits))


# --- what ----------------------------------------------------------------------------------------------------


def _explain_one(place: _Place, error: Mapping[str, Any]) -> FieldError:
    kind, context, value = error["type"], error.get("ctx") or {}, error["input"]
    name = _name(place)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = context["discriminator"].strip("'")
        names = list(members_of(place.annotation))
        pointer = pointer_of((*place.parts, tag))
        if kind == "union_tag_not_found":
            detail = f"`{tag}` is missing: it says which kind of {name} this is"
            return FieldError(pointer, detail, None, one_of(names))
        given = value.get(tag) if isinstance(value, Mapping) else getattr(value, tag, None)
        return FieldError(pointer, _unknown(tag, given, names), shown(given), one_of(names))
    if "field" in context:  # a rule over several fields, which names the one to change, by a path
        others, stood = str(context["field"]).split("/"), value
        for other in others:
            stood = stood.get(other) if isinstance(stood, Mapping) else getattr(stood, other, None)
        return FieldError(pointer_of((*place.parts, *others)), error["msg"], shown(stood), context.get("expected"))
    pointer = pointer_of(place.parts)
    if kind not in PYDANTICS or kind in _RAISED:
        detail = str(error["msg"]).removeprefix(_RAISED.get(kind, ""))
        return FieldError(pointer, detail, shown(value), str(context.get("expected") or place.expected))
    if kind == "literal_error" and get_origin(place.annotation) is Literal:
        names = [str(choice) for choice in get_args(place.annotation)]
        return FieldError(pointer, _unknown(name, value, names), shown(value), one_of(names))
    if kind == "extra_forbidden" and place.owner is not None:
        names = list(place.owner.model_fields)
        detail = f"there is no field `{shown(name)}` here{_did_you_mean(name, names)}"
        return FieldError(pointer, detail, shown(value), one_of(names))
    if kind == "missing":
        return FieldError(pointer, f"`{name}` is required", None, place.expected)
    of, more = _MORE.get(kind, (None, ""))
    expected = f"{place.expected}, {more}" if of is not None and place.annotation is of else place.expected
    return FieldError(pointer, f"{_quoted(place)} must be {expected}", shown(value), expected)


def _name(place: _Place) -> str:
    """The last part, an item with its list: "batch_sizes[0]"."""
    if len(place.parts) > 1 and place.owner is None and place.parts[-1].isdigit():
        return f"{place.parts[-2]}[{place.parts[-1]}]"
    return str(shown(place.parts[-1])) if place.parts else "the body"


def _quoted(place: _Place) -> str:
    return f"`{_name(place)}`" if place.parts else "the body"


def _unknown(name: str, value: Any, names: Sequence[str]) -> str:
    if not isinstance(value, str):
        return f"`{name}` must be {one_of(names)}"
    return f"unknown {name} {shown(value)!r}{_did_you_mean(value, names)}"


def _did_you_mean(value: str, names: Iterable[str]) -> str:
    near = near_name(value[:SHOWN_CHARACTERS], names)
    return f"; did you mean {near!r}?" if near else ""
