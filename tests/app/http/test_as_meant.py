"""What a request says in vain: told, and not passed over."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.app.conftest import SPEC

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("path", "name", "says"),
    [
        ("/jobs?state=failed", "state", "did you mean `status`?"),
        ("/jobs?limit=5&labels=a%3Db", "labels", "did you mean `label`?"),
        ("/catalog?x=1", "x", "there is no query parameter `x` here"),
        ("/sweeps?%00=1", "\0", "there is no query parameter"),
    ],
)
def test_a_parameter_that_an_operation_has_not(client: TestClient, path: str, name: str, says: str) -> None:
    response = client.get(path)
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["parameter"] == f"query {name}"
    assert says in error["detail"]
    assert error["expected"]


def test_parameters_that_it_has_and_what_watches_a_service(client: TestClient) -> None:
    for path in ("/jobs?status=failed&label=a%3Db&label=c%3Dd", "/jobs?limit=3", "/healthz?now=1", "/metrics?x=1"):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        ('{"seed": 1, "seed": 2, ', "/seed"),
        ('{"labels": {"a": "x", "a": "x"}, ', "/labels/a"),
        ('{"quantise": [{"kind": "gguf", "kind": "gguf"}], ', "/quantise/0/kind"),
    ],
)
@pytest.mark.parametrize("path", ["/jobs", "/estimates"])
def test_a_key_that_stands_twice(client: TestClient, path: str, raw: str, pointer: str) -> None:
    response = client.post(path, content=raw + json.dumps(SPEC)[1:], headers=JSON)
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["pointer"] == pointer
    assert "stands twice" in error["detail"]


def test_a_key_that_stands_in_two_objects(client: TestClient) -> None:
    body: dict[str, Any] = {**SPEC, "labels": {"seed": "1"}, "seed": 1}
    assert client.post("/jobs", content=json.dumps(body), headers=JSON).status_code == 202
