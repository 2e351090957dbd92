"""pydantic's errors become pointers into the very body that was sent."""

from __future__ import annotations

import json
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core._pydantic_core import list_all_errors

from secateur.contract.errors import FieldError
from secateur.contract.shown import SHOWN_CHARACTERS, shown
from secateur.contract.spec import CompressionSpec
from secateur.contract.validation_errors import field_errors, pointer_of


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["a"] = "a"
    size: int = Field(ge=1, le=9)


class Other(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["b", "bb"]
    names: dict[str, list[int]] = Field(default_factory=dict)


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    one: Annotated[Inner | Other, Field(discriminator="kind")] | None = None
    many: tuple[Annotated[Inner | Other, Field(discriminator="kind")], ...] = ()


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"


class Places(BaseModel):
    flag: bool
    count: int = Field(ge=1, multiple_of=1)
    share: float | None = Field(gt=0, lt=1)
    name: str = Field(min_length=2, max_length=2)
    choice: Literal["a", "b"]
    id: UUID
    at: datetime
    state: State
    numbers: tuple[Annotated[int, Field(ge=2)], ...] = Field(min_length=1)
    words: list[str] = Field(max_length=3)
    labels: dict[str, Annotated[str, StringConstraints(max_length=9)]]
    one: Inner | Other = Field(discriminator="kind")
    either: str | list[int] | None


PLACES = {
    "flag": "true or false",
    "count": "a whole number, at least 1",
    "share": "a number, above 0 and below 1",
    "name": "a string of 2 characters",
    "choice": "one of a, b",
    "id": "a UUID, such as 019ab8e2-3f40-7d21-8a55-6c1de0b7f913",
    "at": "a time of RFC 3339, such as 2026-11-24T10:00:00Z",
    "state": "one of queued, running",
    "numbers": "an array of at least 1 item, each item a whole number, at least 2",
    "words": "an array of at most 3 items, each item a string",
    "labels": "a JSON object, each value a string of at most 9 characters",
    "one": "an object with kind: one of a, b, bb",
    "either": "a string, or an array, each item a whole number",
}


def errors(value: Any) -> list[FieldError]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(value)
    return field_errors(Outer, caught.value.errors(include_url=False))


@pytest.mark.parametrize(
    ("value", "pointer", "expected"),
    [
        ({"one": {"kind": "a", "size": 0}}, "/one/size", "a whole number, at least 1 and at most 9"),
        ({"one": {"kind": "a"}}, "/one/size", "a whole number, at least 1 and at most 9"),
        ({"one": {"kind": "c"}}, "/one/kind", "one of a, b, bb"),
        ({"one": {"size": 1}}, "/one/kind", "one of a, b, bb"),
        ({"one": 5}, "/one", "an object with kind: one of a, b, bb"),
        ({"one": {"kind": "a", "size": 1, "a": 2}}, "/one/a", "one of kind, size"),  # a field named like a tag
        ({"many": [{"kind": "a", "size": 1}, {"kind": "bb", "x": 1}]}, "/many/1/x", "one of kind, names"),
        ({"many": [{"kind": "b", "names": {"a/b~c": [1, "x"]}}]}, "/many/0/names/a~1b~0c/1", "a whole number"),
        ({"man": []}, "/man", "one of one, many"),
        ([], "", "a JSON object"),
    ],
)
def test_the_pointer_is_of_the_body_and_not_of_pydantics_unions(value: Any, pointer: str, expected: str) -> None:
    (error,) = errors(value)
    assert (error.pointer, (error.expected or "")[: len(expected)]) == (pointer, expected)


def test_a_near_name_is_suggested_and_a_far_one_is_not() -> None:
    assert "did you mean 'many'?" in errors({"mnay": []})[0].detail
    assert "did you mean" not in errors({"xyz": []})[0].detail


def test_pointers_are_escaped() -> None:
    assert pointer_of(["a/b", 0, "~"]) == "/a~1b/0/~0"
    assert pointer_of([]) == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["source", "kind", "criterion", "hub", "local", "depth", "lora", "text", "id", "path", "blocks", "calibration"]
)
NEARLY = st.dictionaries(
    st.sampled_from([*CompressionSpec.model_fields, "modle"]),
    st.recursive(NAMES | JSON, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=10),
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(NEARLY | JSON)
def test_whatever_is_sent_is_explained_in_json_at_a_place_of_it(body: Any) -> None:
    try:
        CompressionSpec.model_validate(body)
    except ValidationError as error:
        found = field_errors(CompressionSpec, error.errors(include_url=False))
    else:
        return
    assert found
    for field in found:
        json.dumps(field.to_dict(), allow_nan=False)
        assert field.detail
        here = body
        parts = [part.replace("~1", "/").replace("~0", "~") for part in field.pointer.split("/")[1:]]
        for depth, part in enumerate(parts):
            if isinstance(here, list):
                here = here[int(part)]
            elif part in here:
                here = here[part]
            else:
                assert depth == len(parts) - 1  # only the last part may be what is missing


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_what_is_shown_is_short_json(value: Any) -> None:
    assert len(json.dumps(shown(value), allow_nan=False, ensure_ascii=False)) <= 2 * SHOWN_CHARACTERS + 50


@pytest.mark.parametrize("error", list_all_errors(), ids=lambda error: str(error["type"]))
def test_whatever_pydantic_may_complain_of_is_told_in_our_words(error: dict[str, Any]) -> None:
    """For a place of every type; what pydantic says of it is of no account."""
    for place, expected in PLACES.items():
        said = {
            "type": error["type"],
            "loc": (place,),
            "msg": error["message_template_python"],
            "ctx": dict(error.get("example_context") or {}),
            "input": "X",
        }
        if error["type"] in ("value_error", "assertion_error"):  # raised by a function of ours, in its words
            said["msg"] = (
                "Value error, it is wrong" if error["type"] == "value_error" else "Assertion failed, it is wrong"
            )
        if error["type"].startswith("union_tag"):
            said["ctx"]["discriminator"] = "'kind'"
        if error["type"] == "too_short":
            said |= {"input": [], "ctx": {"min_length": 1}}
        (found,) = field_errors(Places, [said])
        words = f"{found.detail} {found.expected}"
        assert found.pointer.startswith(f"/{place}")
        assert not re.search(r"tuple|dict|[Ii]nput|Should|integer|None|parse|error|failed|valid", words)
        if found.pointer == f"/{place}" and error["type"] not in ("extra_forbidden",):
            assert (found.expected or "").startswith(expected)
