"""Every kind of wrong value in every field of a job's spec is answered in words about JSON, and not about Python."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from starlette.testclient import TestClient

from secateur.contract.expectations import UNKNOWN, bare, members_of, tag_name
from secateur.contract.spec import CompressionSpec

WRONG: dict[str, Any] = {
    "null": None,
    "true": True,
    "zero": 0,
    "negative": -1,
    "fraction": 1.5,
    "huge fraction": 1e300,
    "huge number": 10**30,
    "not a number": float("nan"),
    "empty text": "",
    "text": "x y",
    "long text": "x" * 500,
    "half a pair": "\ud800",
    "many digits": "1" * 5000,
    "empty array": [],
    "nested array": [[[]]],
    "array of null": [None, None],
    "array of text": ["x y", "\0"],
    "array of objects": [{"a": 1}],
    "empty object": {},
    "object": {"a b": {"c": []}},
}
PYTHONS = re.compile(
    r"\b(tuple|dict|dictionary|NoneType|None|pydantic|[Ii]nput|str|int|bool|boolean|integer|parse|parsing|urn"
    r"|frozenset|datetime|instance|attribute|[Vv]alue error|invalid character|decimal|iterable|mapping)\b"
    r"|valid (string|number|list)|True|False|sys\.|\w+Error\b|<class|^none, |^, "
)
REQUIRED: dict[str, Any] = {  # of the objects that have fields without a default
    "model": {"source": "hub", "id": "a/b"},
    "pruning": {"kind": "depth", "blocks": 1},
}


def objects(annotation: Any) -> Iterator[tuple[type[BaseModel], dict[str, Any]]]:
    """Each object that may stand at a place, with the field that chooses it."""
    annotation, _ = bare(annotation)
    members = members_of(annotation)
    if members:
        tag = tag_name(list(members.values()))
        assert tag
        for name, member in members.items():
            yield member, {tag: name}
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, {}


Place = tuple[tuple[str, ...], type[BaseModel], str]  # fields on the way to an object, what it is, what chooses it


def bodies(
    model: type[BaseModel], chosen: dict[str, Any], wrong: Any, *, path: tuple[str, ...], seen: set[Place]
) -> Iterator[dict[str, Any]]:
    """Bodies of this object: all fields wrong at once, and then each object within it likewise.

    An object is tried once at each place: eight criteria have the same calibration under the same field.
    """
    place = (path, model, str(chosen))
    if place in seen:
        return
    seen.add(place)
    yield {**dict.fromkeys(model.model_fields, wrong), **chosen}
    for name, field in model.model_fields.items():
        inner, _ = bare(field.annotation)
        item = get_origin(inner) in (tuple, list)
        for member, tag in objects(get_args(inner)[0] if item else inner):
            for body in bodies(member, tag, wrong, path=(*path, name), seen=seen):
                yield {**chosen, name: [body] if item else body}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", WRONG)
def test_no_answer_speaks_of_python(client: TestClient, kind: str) -> None:
    places: set[str] = set()
    for body in bodies(CompressionSpec, {}, WRONG[kind], path=(), seen=set()):
        content = json.dumps({**REQUIRED, **body})
        response = client.post("/jobs", content=content, headers={"content-type": "application/json"})
        if response.status_code == 202:
            continue  # the value is right in every field, or stands where the API does not look
        assert response.status_code == 422, (content, response.text)
        for error in response.json()["errors"]:
            places.add(error["pointer"])
            for words in (error["detail"], error["expected"]):
                said = words.replace(error["value"], "") if isinstance(error["value"], str) else words
                assert not PYTHONS.search(said), (error, content)
                assert words, (error, content)
            assert error["expected"] != UNKNOWN, (error, content)
    assert len(places) > 20
