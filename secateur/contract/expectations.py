"""What is expected at a place of a body, in this service's own words: read off the place's annotation and its limits.

pydantic words what it complains of by Python's types ("a valid tuple", "unable to parse string as an integer"). A user
sends JSON, and wants to know what would be right, whatever was wrong. So a complaint tells where it is, and never what
is expected there: that is a property of the place.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel
from pydantic.fields import FieldInfo

UNKNOWN = "what /openapi.json has at this place"  # where an annotation says nothing
A_UUID = "a UUID, such as 019ab8e2-3f40-7d21-8a55-6c1de0b7f913"
_PLAIN: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    UUID: A_UUID,
    datetime: "a time of RFC 3339, such as 2026-11-24T10:00:00Z",
    type(None): "null",
}
_ARRAYS = (tuple, list, set, frozenset, Sequence)
_LIMITS = (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"))


def expected_at(annotation: Any, limits: Iterable[Any] = ()) -> str:
    """What a value of this annotation is, as "a whole number, at least 1 and at most 9"; `UNKNOWN` if it does not say.

    Args:
        limits: what pydantic keeps beside an annotation, `FieldInfo.metadata`.
    """
    held = list(_flat(limits))
    annotation, more = bare(annotation)
    held += more
    if get_origin(annotation) in (Union, types.UnionType):
        members = members_of(annotation)
        if members:
            return f"an object with {tag_name(list(members.values()))}: {one_of(list(members))}"
        shapes = list(dict.fromkeys(expected_at(one, held) for one in get_args(annotation)))
        return (", or " if any("," in shape for shape in shapes) else " or ").join(shapes)
    if get_origin(annotation) is Literal:
        return one_of([str(choice) for choice in get_args(annotation)])
    if get_origin(annotation) in _ARRAYS:
        return f"an array{_size(held, 'item')}{_each('item', get_args(annotation)[:1])}"
    if get_origin(annotation) is dict or annotation is dict:
        return f"a JSON object{_size(held, 'field')}{_each('value', get_args(annotation)[1:])}"
    if isinstance(annotation, type):
        if issubclass(annotation, Enum):
            return one_of([str(choice.value) for choice in annotation])
        if issubclass(annotation, BaseModel):
            return "a JSON object"
    noun = _PLAIN.get(annotation, UNKNOWN)
    if annotation in (int, float):
        bounds = [f"{word} {limit}" for name, word in _LIMITS for limit in _of(held, name)]
        return f"{noun}, {' and '.join(bounds)}" if bounds else noun
    if annotation is str:
        patterns = [f" that matches {pattern}" for pattern in _of(held, "pattern")]
        return noun + _size(held, "character") + "".join(patterns)
    return noun


def bare(annotation: Any) -> tuple[Any, list[Any]]:
    """The annotation without Annotated and without `| None`, and the limits that stood in it."""
    limits: list[Any] = []
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            limits += _flat(more)
            continue
        if get_origin(annotation) in (Union, types.UnionType):
            rest = [arg for arg in get_args(annotation) if arg is not type(None)]
            if len(rest) == 1:
                annotation = rest[0]
                continue
        return annotation, limits


def members_of(annotation: Any) -> dict[str, type[BaseModel]]:
    """Tag → member of a union of models; empty for anything else."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return {}
    found = [bare(arg)[0] for arg in get_args(annotation)]
    members = [member for member in found if isinstance(member, type) and issubclass(member, BaseModel)]
    tag = tag_name(members)
    return {str(name): member for member in members if tag for name in get_args(member.model_fields[tag].annotation)}


def tag_name(members: Sequence[type[BaseModel]]) -> str | None:
    """The field that a union's members are chosen by: the first that is a literal in all of them."""
    literals = [
        [name for name, field in member.model_fields.items() if get_origin(field.annotation) is Literal]
        for member in members
    ]
    return next((name for names in literals for name in names if all(name in other for other in literals)), None)


def one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}" if len(names) != 1 else names[0]


def _flat(limits: Iterable[Any]) -> Iterator[Any]:
    for limit in limits:
        if isinstance(limit, FieldInfo):
            yield from limit.metadata
        else:
            yield limit


def _of(limits: Iterable[Any], name: str) -> list[Any]:
    return [value for limit in limits if (value := getattr(limit, name, None)) is not None]


def _size(limits: Sequence[Any], noun: str) -> str:
    """How many: " of 1 to 8 items"."""
    least, most = max(_of(limits, "min_length"), default=0), min(_of(limits, "max_length"), default=None)
    if most is None:
        return f" of at least {_counted(least, noun)}" if least else ""
    if least == most:
        return f" of {_counted(most, noun)}"
    return f" of {least} to {_counted(most, noun)}" if least else f" of at most {_counted(most, noun)}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _each(noun: str, annotations: Sequence[Any]) -> str:
    """What stands within: ", each item a whole number"; nothing where it may be anything."""
    inner = expected_at(annotations[0]) if annotations else UNKNOWN
    return "" if inner == UNKNOWN else f", each {noun} {inner}"
