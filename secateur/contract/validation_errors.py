"""pydantic's errors → field errors that a user can act on.

pydantic says where it stood in its own terms: a location holds the tags of the unions that it passed through, and a
message speaks of "inputs" and "tags". Here a location is walked along the model's own annotations, which gives the JSON
pointer into what was sent, the class that rejected a field, and so the names that would have been right.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from secateur.contract.catalog import near_name
from secateur.contract.errors import FieldError
from secateur.contract.shown import SHOWN_CHARACTERS, shown

Errors = Iterable[Mapping[str, Any]]  # as ValidationError.errors() lists them


@dataclass(frozen=True)
class _Place:
    parts: tuple[str, ...]  # of the JSON pointer
    owner: type[BaseModel] | None  # the model that has, or refuses, the last part
    field: FieldInfo | None
    annotation: Any  # of the value at the place; None where unknown


def explain(model: type[BaseModel], errors: Errors) -> list[FieldError]:
    """One field error for each of pydantic's `errors` on a value for `model`; knock-on errors are left out."""
    return [_explain_one(_locate(model, error["loc"]), error) for error in errors if not _knock_on(error)]


def pointer_of(parts: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) of a path: `["a/b", 0]` → "/a~1b/0"."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _knock_on(error: Mapping[str, Any]) -> bool:
    """pydantic counts a list as too short when its items were refused, which are errors of their own."""
    return bool(error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"])


# --- where ---------------------------------------------------------------------------------------------------


def _locate(model: type[BaseModel], loc: Sequence[str | int]) -> _Place:
    parts: list[str] = []
    owner: type[BaseModel] | None = None
    field: FieldInfo | None = None
    here: Any = model
    for step in loc:
        here = _bare(here)
        members = _members(here)
        if isinstance(here, type) and issubclass(here, BaseModel):
            parts.append(str(step))
            owner, field = here, here.model_fields.get(str(step))
            here = field.annotation if field else None
        elif members:
            here = members.get(str(step))
        elif get_origin(here) in (tuple, list, set, frozenset):
            parts.append(str(step))
            field, here = None, get_args(here)[0]
        elif get_origin(here) is dict and step != "[key]":
            parts.append(str(step))
            field, here = None, get_args(here)[1]
        elif isinstance(step, int):
            parts.append(str(step))
    return _Place(tuple(parts), owner, field, _bare(here))


def _bare(annotation: Any) -> Any:
    """The annotation without Annotated and without `| None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        if get_origin(annotation) in (Union, types.UnionType):
            rest = [arg for arg in get_args(annotation) if arg is not type(None)]
            if len(rest) == 1:
                annotation = rest[0]
                continue
        return annotation


def _members(annotation: Any) -> dict[str, type[BaseModel]]:
    """Tag → member of a union of models; empty for anything else."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return {}
    members = [
        bare for arg in get_args(annotation) if isinstance(bare := _bare(arg), type) and issubclass(bare, BaseModel)
    ]
    tag = _tag_name(members)
    return {str(name): member for member in members if tag for name in get_args(member.model_fields[tag].annotation)}


def _tag_name(members: Sequence[type[BaseModel]]) -> str | None:
    """The field that a union's members are chosen by: the first that is a literal in all of them."""
    literals = [
        [name for name, field in member.model_fields.items() if get_origin(field.annotation) is Literal]
        for member in members
    ]
    return next((name for names in literals for name in names if all(name in other for other in literals)), None)


# --- what ----------------------------------------------------------------------------------------------------


def _explain_one(place: _Place, error: Mapping[str, Any]) -> FieldError:
    kind, context, value = error["type"], error.get("ctx") or {}, error["input"]
    name = _name(place)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag_name = context["discriminator"].strip("'")
        names = list(_members(place.annotation))
        pointer = pointer_of((*place.parts, tag_name))
        if kind == "union_tag_not_found":
            detail = f"`{tag_name}` is missing: it says which kind of {name} this is"
            return FieldError(pointer, detail, None, _one_of(names))
        tag = str(context["tag"])
        return FieldError(pointer, _unknown(tag_name, tag, names), shown(tag), _one_of(names))
    if "field" in context:  # a rule over several fields, which names the one to change
        name = str(context["field"])
        given = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        return FieldError(pointer_of((*place.parts, name)), error["msg"], shown(given), context.get("expected"))
    pointer = pointer_of(place.parts)
    if kind == "literal_error" and place.field is not None and get_origin(place.annotation) is Literal:
        names = [str(choice) for choice in get_args(place.annotation)]
        return FieldError(pointer, _unknown(name, str(value), names), shown(value), _one_of(names))
    if kind == "extra_forbidden" and place.owner is not None:
        names = list(place.owner.model_fields)
        detail = f"there is no field `{shown(name)}` here{_did_you_mean(name, names)}"
        return FieldError(pointer, detail, shown(value), _one_of(names))
    if kind == "missing":
        return FieldError(pointer, f"`{name}` is required", None, _describe(place) or "a value")
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return FieldError(pointer, f"{_quoted(place)} must be a JSON object", shown(value), "a JSON object")
    expected = str(context.get("expected") or "") or _bounds(place.field) or _phrase(error["msg"])
    if error["msg"].startswith("Input should be "):
        detail = f"{_quoted(place)} must be {_bounds(place.field) or _phrase(error['msg'])}"
    else:
        detail = str(error["msg"])
        if "expected" not in context:  # pydantic's own words, which do not name the field
            detail = f"{_quoted(place)}: {detail[:1].lower()}{detail[1:]}"
    return FieldError(pointer, detail, shown(value), expected)


def _name(place: _Place) -> str:
    """The last part, an item with its list: "batch_sizes[0]"."""
    if len(place.parts) > 1 and place.field is None and place.parts[-1].isdigit():
        return f"{place.parts[-2]}[{place.parts[-1]}]"
    return str(shown(place.parts[-1])) if place.parts else "the body"


def _quoted(place: _Place) -> str:
    return f"`{_name(place)}`" if place.parts else "the body"


def _unknown(name: str, value: str, names: Sequence[str]) -> str:
    return f"unknown {name} {shown(value)!r}{_did_you_mean(value, names)}"


def _did_you_mean(value: str, names: Iterable[str]) -> str:
    near = near_name(value[:SHOWN_CHARACTERS], names)
    return f"; did you mean {near!r}?" if near else ""


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}" if len(names) != 1 else names[0]


def _phrase(message: str) -> str:
    """pydantic's message as what is expected: "Input should be a valid string" → "a valid string"."""
    return re.sub(r"^(Input|String|Tuple|List|Dictionary) should ", "", message).removeprefix("be ")


def _describe(place: _Place) -> str:
    """What stands at a place, where the annotation says it simply."""
    members = _members(place.annotation)
    if members:
        name = _tag_name(list(members.values()))
        return f"an object with {name}: {_one_of(list(members))}"
    plain = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
    if isinstance(place.annotation, type) and issubclass(place.annotation, BaseModel):
        return "a JSON object"
    return _bounds(place.field) or plain.get(place.annotation, "")


_BOUNDS: tuple[tuple[type[Any], str, str], ...] = (
    (annotated_types.Gt, "gt", "above"),
    (annotated_types.Ge, "ge", "at least"),
    (annotated_types.Lt, "lt", "below"),
    (annotated_types.Le, "le", "at most"),
)


def _bounds(field: FieldInfo | None) -> str:
    """All limits of a number at once: "a number, above 0 and below 1"."""
    if field is None or (kind := _bare(field.annotation)) not in (int, float):
        return ""
    limits = [
        f"{word} {getattr(item, attribute)}"
        for cls, attribute, word in _BOUNDS
        for item in field.metadata
        if isinstance(item, cls)
    ]
    noun = "a whole number" if kind is int else "a number"
    return f"{noun}, {' and '.join(limits)}" if limits else noun
