"""The OpenAPI document says of every operation what it does and what it answers, and its examples are true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.api import example_results
from app.main import create_app
from app.settings import Settings

METHODS = ("get", "post", "put", "patch", "delete", "head")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(json.dumps(create_app(Settings()).openapi()))  # type: ignore[no-any-return]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert method in METHODS
            yield f"{method.upper()} {path}", operation


def check(document: dict[str, Any], schema: dict[str, Any], value: Any, where: str) -> None:
    """`value` holds against `schema`, whose references are into the document."""
    whole = {**schema, "components": document["components"]}
    problems = [error.message for error in jsonschema_rs.Draft202012Validator(whole).iter_errors(value)]
    assert not problems, (where, problems[:3])


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    ids = []
    tags = {tag["name"] for tag in document["tags"]}
    for name, operation in operations(document):
        assert operation.get("summary"), name
        assert operation.get("description"), name
        assert set(operation["tags"]) <= tags, name
        ids.append(operation["operationId"])
        for parameter in operation.get("parameters", []):
            if parameter["in"] != "path":
                assert parameter.get("description"), (name, parameter["name"])
    assert len(ids) == len(set(ids))


def test_tags_stand_in_the_order_of_their_places(document: dict[str, Any]) -> None:
    tags = [tag["name"] for tag in document["tags"]]
    assert tags[:3] == ["jobs", "events", "results"]  # what most who open the page look for
    shown = [operation["tags"][0] for _, operation in operations(document)]
    assert list(dict.fromkeys(shown)) == tags  # those of one tag stand together


def test_operation_ids_stay_what_they_are(document: dict[str, Any]) -> None:
    """Generated clients have methods of these names: adding is fine, renaming is not."""
    assert {operation["operationId"] for _, operation in operations(document)} >= {
        "submit_job",
        "list_jobs",
        "get_job",
        "cancel_job",
        "retry_job",
        "delete_job",
        "list_events",
        "list_logs",
        "get_scores",
        "get_report",
        "compare_jobs",
        "list_artifacts",
        "download_artifact",
        "get_catalog",
        "get_health",
        "get_readiness",
        "get_metrics",
    }


def test_every_answer_has_an_example_that_holds(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            assert response.get("description"), (name, status)
            for media_type, content in response.get("content", {}).items():
                where = f"{name} {status} {media_type}"
                shown = [example["value"] for example in content.get("examples", {}).values()]
                shown += [content["example"]] if "example" in content else []
                binary = content.get("schema", {}).get("format") == "binary"
                assert shown or binary, where
                for value in shown:
                    check(document, content.get("schema", {}), value, where)
                    if status >= "400" and media_type.endswith("problem+json"):
                        assert value["status"] == int(status), where
                        assert value["request_id"], where


def test_every_operation_declares_its_errors_as_problems(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        path = name.split()[1]
        expected = {
            "/healthz": set(),
            "/readyz": set(),
            "/catalog": {"401", "503"},
            "/metrics": {"401", "503"},
            "/workers": {"401", "503"},
        }.get(path, {"401", "422", "503"} | ({"404"} if "{job_id}" in path else set()))
        declared = {status for status in operation["responses"] if status >= "400"}
        assert expected <= declared, name
        if "requestBody" in operation:
            assert {"400", "413", "415", "422"} <= declared, name
        for status in declared:
            if (path, status) != ("/readyz", "503"):
                assert set(operation["responses"][status]["content"]) == {"application/problem+json"}, (name, status)


def test_examples_of_requests_hold_and_run(client: TestClient, document: dict[str, Any], model_root: Any) -> None:
    from tests.fixtures.small_files import write_gguf

    write_gguf(model_root / "SmolLM2-135M-Instruct.Q4_1.gguf", 30)
    body = document["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) >= 4
    for name, example in body["examples"].items():
        assert example["summary"], name
        check(document, body["schema"], example["value"], name)
        assert client.post("/jobs", json=example["value"]).status_code == 202, name


def test_the_schemas_of_report_and_scores_are_there(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert {"Report", "Scores", "Problem", "CompressionSpec", "Job", "Event", "LogPage"} <= set(schemas)
    check(document, {"$ref": "#/components/schemas/Report"}, example_results.REPORT, "report")


def test_no_error_is_declared_in_the_frameworks_own_shape(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in json.dumps(document)


def test_the_description_is_short(document: dict[str, Any]) -> None:
    assert document["info"]["description"].count(". ") == 2  # three sentences


def test_the_document_is_served_as_it_is(client: TestClient, application: FastAPI) -> None:
    assert client.get("/openapi.json").json() == json.loads(json.dumps(application.openapi()))


def test_the_docs_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    import re

    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) >= 4
    for link in links:
        assert "//" not in link
        response = client.get(f"/{link}")
        assert response.status_code == 200, link
        assert len(response.content) > 100
    assert "validatorUrl: null" in client.get("/docs/start.js").text
