"""pydantic's errors become pointers into the very body that was sent."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from secateur.contract.errors import FieldError
from secateur.contract.shown import SHOWN_CHARACTERS, shown
from secateur.contract.spec import CompressionSpec
from secateur.contract.validation_errors import explain, pointer_of


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


def errors(value: Any) -> list[FieldError]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(value)
    return explain(Outer, caught.value.errors(include_url=False))


@pytest.mark.parametrize(
    ("value", "pointer", "expected"),
    [
        ({"one": {"kind": "a", "size": 0}}, "/one/size", "a whole number, at least 1 and at most 9"),
        ({"one": {"kind": "a"}}, "/one/size", "a whole number, at least 1 and at most 9"),
        ({"one": {"kind": "c"}}, "/one/kind", "one of a, b, bb"),
        ({"one": {"size": 1}}, "/one/kind", "one of a, b, bb"),
        ({"one": 5}, "/one", "a JSON object"),
        ({"one": {"kind": "a", "size": 1, "a": 2}}, "/one/a", "one of kind, size"),  # a field named like a tag
        ({"many": [{"kind": "a", "size": 1}, {"kind": "bb", "x": 1}]}, "/many/1/x", "one of kind, names"),
        ({"many": [{"kind": "b", "names": {"a/b~c": [1, "x"]}}]}, "/many/0/names/a~1b~0c/1", "a valid integer"),
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
        found = explain(CompressionSpec, error.errors(include_url=False))
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
