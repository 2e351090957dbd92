"""Every error is a problem+json with its type, the request's id and path, and tells nothing that it should not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.exc import ProgrammingError
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings


def check(response: Any, status: int, slug: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["type"] == f"https://secateur.dev/problems/{slug}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["instance"] == response.request.url.path
    return problem


def test_a_path_that_does_not_exist(client: TestClient) -> None:
    check(client.get("/nothing/here"), 404, "not-found")


def test_a_method_that_is_not_offered(client: TestClient) -> None:
    response = client.put("/jobs")
    check(response, 405, "method-not-allowed")
    assert sorted(response.headers["allow"].split(", ")) == ["GET", "POST"]


def test_an_id_that_is_none(client: TestClient) -> None:
    problem = check(client.get("/jobs/seven"), 422, "invalid-input")
    assert problem["errors"][0]["parameter"] == "path job_id"
    assert problem["errors"][0]["value"] == "seven"


def test_json_that_is_broken(client: TestClient) -> None:
    json_type = {"content-type": "application/json"}
    for body in (b"{", b"{'a': 1}", b"[" * 100_000, b"\xff\xfe"):
        check(client.post("/jobs", content=body, headers=json_type), 400, "bad-request")
    too_long = b'{"seed": ' + b"9" * 5000 + b"}"  # JSON, of which one field cannot be read
    check(client.post("/jobs", content=too_long, headers=json_type), 422, "invalid-input")


def test_a_body_of_another_type(client: TestClient) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        headers = {"content-type": content_type} if content_type else {}
        check(client.post("/jobs", content=b'{"a": 1}', headers=headers), 415, "unsupported-media-type")


def test_no_body(client: TestClient) -> None:
    check(client.post("/jobs"), 422, "invalid-input")


def test_a_body_over_the_limit(make_settings: Callable[..., Settings], spec: dict[str, Any]) -> None:
    with TestClient(create_app(make_settings(max_body_bytes=2000)), base_url="http://localhost") as client:
        assert client.post("/jobs", json=spec).status_code == 202
        check(client.post("/jobs", json={**spec, "x": "y" * 3000}), 413, "payload-too-large")

        def chunks() -> Iterator[bytes]:
            for _ in range(100):
                yield b" " * 100

        json_type = {"content-type": "application/json"}
        check(client.post("/jobs", content=chunks(), headers=json_type), 413, "payload-too-large")


def test_the_callers_request_id_is_kept_if_it_is_one(client: TestClient) -> None:
    assert client.get("/healthz", headers={"x-request-id": "ci-42/a"}).headers["x-request-id"] == "ci-42/a"
    for bad in ("a b", "x" * 200, "<script>"):
        assert client.get("/healthz", headers={"x-request-id": bad}).headers["x-request-id"] != bad


def test_a_defect_tells_its_request_id_and_nothing_else(application: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise ValueError("the password is hunter2")

    application.add_api_route("/broken", broken)
    with TestClient(application, base_url="http://localhost") as client:
        response = client.get("/broken")
    check(response, 500, "internal-error")
    assert "hunter2" not in response.text
    assert "ValueError" not in response.text
    assert "hunter2" in caplog.text  # the record has it, before it is written


def test_the_line_that_a_500_points_to_has_its_id_and_no_password(
    application: FastAPI, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a program of the service logs, in the form in which it does."""
    from app.logs import formatter
    from secateur import masking

    monkeypatch.setattr(masking, "_known", set())
    monkeypatch.setattr(masking, "_pattern", None)
    masking.learn_url("postgresql://secateur:hunter2@db/secateur")

    def broken() -> None:
        logging.getLogger("some.library").warning("about to fail")
        raise ValueError("cannot log in with hunter2 at postgresql://secateur:hunter2@db/secateur")

    application.add_api_route("/broken", broken)
    with TestClient(application, base_url="http://localhost") as client:
        caplog.handler.setFormatter(formatter("json", terminal=False))
        caplog.set_level(logging.INFO)
        caplog.clear()
        id = client.get("/broken").json()["request_id"]
        client.get("/healthz%0aforged")
    assert "hunter2" not in caplog.text
    lines = map(json.loads, caplog.text.splitlines())
    library, defect, answer, forged = (line for line in lines if line["logger"] != "httpx2")  # the test's own client
    assert (library["message"], library["request_id"]) == ("about to fail", id)  # whoever speaks on its behalf
    assert (defect["message"], defect["request_id"], defect["logger"]) == ("unhandled error", id, "app.http")
    assert "ValueError: cannot log in with ***" in defect["exception"]
    assert (answer["method"], answer["path"], answer["status"]) == ("GET", "/broken", 500)
    assert forged["path"] == "/healthz%0aforged"
    assert forged["request_id"] != id


def test_a_database_error_that_is_a_defect_is_a_500(application: FastAPI) -> None:
    def broken() -> None:
        raise ProgrammingError("SELECT secret", {}, Exception("no such table"))

    application.add_api_route("/broken", broken)
    with TestClient(application, base_url="http://localhost") as client:
        response = client.get("/broken")
    # no SQLSTATE: nobody knows whether the database answered, so the client may come again
    assert response.status_code in (500, 503)
    assert "secret" not in response.text


def test_a_database_that_is_away_is_a_503_worth_another_try(
    make_settings: Callable[..., Settings], spec: dict[str, Any]
) -> None:
    settings = make_settings(database_url="postgresql://nobody@127.0.0.1:1/none")
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        for response in (
            client.get("/jobs"),
            client.post("/jobs", json=spec),
            client.get("/jobs/019ab8e0-6a1c-7c5e-9d3f-2b6f0c9d4e11/events", headers={"accept": "text/event-stream"}),
            client.get("/jobs/019ab8e0-6a1c-7c5e-9d3f-2b6f0c9d4e11/report"),
        ):
            problem = check(response, 503, "unavailable")
            assert int(response.headers["retry-after"]) > 0
            assert "127.0.0.1" not in problem["detail"]


def test_pages_of_other_sites_change_nothing(client: TestClient, spec: dict[str, Any]) -> None:
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
    ):
        check(client.post("/jobs", json=spec, headers=headers), 403, "forbidden")
    own = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    assert client.post("/jobs", json=spec, headers=own).status_code == 202
    assert client.get("/jobs", headers={"origin": "https://evil.example"}).status_code == 200


class TestKeys:
    """Bearer keys."""

    KEY = "s3cret-key-of-a-pipeline"

    @pytest.fixture
    def locked(self, make_settings: Callable[..., Settings]) -> Iterator[TestClient]:
        settings = make_settings(api_keys=f"other,{self.KEY}", host="0.0.0.0")
        with TestClient(create_app(settings), base_url="http://localhost") as client:
            yield client

    def test_without_a_key_everything_but_health_is_closed(self, locked: TestClient, spec: dict[str, Any]) -> None:
        job = "/jobs/019ab8e0-6a1c-7c5e-9d3f-2b6f0c9d4e11"
        for method, path in [
            ("GET", "/jobs"),
            ("POST", "/jobs"),
            ("GET", job),
            ("DELETE", job),
            ("POST", f"{job}/cancel"),
            ("POST", f"{job}/retry"),
            ("GET", f"{job}/events"),
            ("GET", f"{job}/logs"),
            ("GET", f"{job}/scores"),
            ("GET", f"{job}/report"),
            ("GET", f"{job}/report.html"),
            ("GET", f"{job}/artifacts"),
            ("GET", f"{job}/artifacts/a"),
            ("HEAD", f"{job}/artifacts/a"),
            ("GET", "/catalog"),
            ("GET", "/metrics"),
        ]:
            response = locked.request(method, path, json=spec if path == "/jobs" and method == "POST" else None)
            assert response.status_code == 401, (method, path)
            assert response.headers["www-authenticate"].startswith("Bearer")
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
            assert locked.get(path).status_code == 200, path

    @pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Basic czNjcmV0", "s3cret-key-of-a-pipeline"])
    def test_a_wrong_key_is_refused(self, locked: TestClient, header: str) -> None:
        check(locked.get("/jobs", headers={"authorization": header}), 401, "unauthorized")

    def test_the_key_opens_and_is_never_told(
        self, locked: TestClient, spec: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        headers = {"authorization": f"Bearer {self.KEY}"}
        answers = [
            locked.post("/jobs", json=spec, headers=headers),
            locked.get("/jobs", headers=headers),
            locked.get("/metrics", headers=headers),
            locked.get("/nothing", headers=headers),
            locked.get("/jobs", headers={"authorization": f"Bearer {self.KEY}x"}),
        ]
        assert [answer.status_code for answer in answers] == [202, 200, 200, 404, 401]
        assert not any(self.KEY in answer.text for answer in answers)
        own = [record.getMessage() for record in caplog.records if record.name.startswith(("app", "sqlalchemy"))]
        assert own
        assert not any(self.KEY in line for line in own)
