"""Uploads over HTTP: stored once whole and good, or not at all."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.db import datasets as dataset_rows
from app.db.session import SessionFactory, unit_of_work
from app.http.multipart import FormReceiver
from app.main import create_app
from app.services import datasets
from app.services.dataset_files import look_through
from app.settings import Settings
from tests.fixtures.live import serving
from tests.fixtures.played_worker import PlayedWorker

ROWS = b'{"text": "one"}\n{"text": "two"}\n'
ALPACA = b'{"instruction": "Greet.", "output": "Hello"}\n'
Upload = Callable[..., Any]


@pytest.fixture
def upload(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> Upload:
    """The files are looked through here; elsewhere in a process that imports for half a second.

    That process is what tests/app/services/test_dataset_check.py is about.
    """
    monkeypatch.setattr(datasets, "check_file", look_through)

    def post(content: bytes = ROWS, file_name: str = "rows.jsonl", **fields: str) -> Any:
        return client.post("/datasets", files={"file": (file_name, content)}, data=fields)

    return post


def stored_files(settings: Settings) -> list[Path]:
    root = settings.data_dir / "artifacts"
    return [path for path in root.rglob("*") if path.is_file()] if root.exists() else []


def nothing_is_left(client: TestClient, settings: Settings) -> bool:
    return client.get("/datasets").json()["data"] == [] and stored_files(settings) == []


def test_what_is_uploaded_is_there(client: TestClient, upload: Upload, settings: Settings) -> None:
    response = upload(name="my rows", sha256=hashlib.sha256(ROWS).hexdigest())
    assert response.status_code == 201, response.text
    body = response.json()
    assert response.headers["location"] == f"/datasets/{body['id']}"
    assert {name: body[name] for name in ("name", "format", "kind", "rows", "size", "sha256")} == {
        "name": "my rows",
        "format": "jsonl",
        "kind": "text",
        "rows": 2,
        "size": len(ROWS),
        "sha256": hashlib.sha256(ROWS).hexdigest(),
    }
    assert client.get(response.headers["location"]).json() == body
    assert client.get("/datasets").json()["data"] == [body]
    content = client.get(f"/datasets/{body['id']}/content")
    assert (content.content, content.headers["x-checksum-sha256"]) == (ROWS, body["sha256"])
    part = client.get(f"/datasets/{body['id']}/content", headers={"range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, ROWS[2:6])
    assert len(stored_files(settings)) == 1
    assert not list((settings.data_dir / "artifacts" / ".partial").iterdir())


def test_the_same_content_is_the_same_data_set(upload: Upload, settings: Settings) -> None:
    first = upload(name="first")
    again = upload(name="second")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert len(stored_files(settings)) == 1
    as_text = upload(file_name="rows.txt")  # the same bytes, read otherwise
    assert as_text.status_code == 201
    assert as_text.json()["kind"] == "text"


def test_two_uploads_of_one_content_at_once(upload: Upload, client: TestClient, settings: Settings) -> None:
    content = ROWS * 20_000
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(upload(content))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(stored_files(settings)) == 1


@pytest.mark.parametrize(("file_name", "format"), [
    ("a.jsonl", "jsonl"), ("A.NDJSON", "jsonl"), ("a.txt", "text"), ("a.md", "text"), ("dump", None), ("a.csv", None),
])  # fmt: skip
def test_the_format_is_told_by_the_name(upload: Upload, file_name: str, format: str | None) -> None:
    response = upload(file_name=file_name)
    if format is None:
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == "/format"
        assert upload(file_name=file_name, format="jsonl").json()["format"] == "jsonl"
    else:
        assert response.json()["format"] == format


def test_names(upload: Upload) -> None:
    assert upload(b"a", "C:\\texts\\news.txt").json()["name"] == "news.txt"
    assert upload(b"b", "../../etc/pässwd.txt").json()["name"] == "pässwd.txt"
    for name in ("", "a\nb", "x" * 201, "  "):
        response = upload(b"c", "c.txt", name=name)
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/name")


@pytest.mark.parametrize(("content", "file_name", "fields", "pointer"), [
    (ROWS, "rows.jsonl", {"sha256": "0" * 64}, "/sha256"),
    (ROWS, "rows.jsonl", {"sha256": "abc"}, "/sha256"),
    (ROWS, "rows.jsonl", {"format": "csv"}, "/format"),
    (ROWS, "rows.jsonl", {"owner": "me"}, "/owner"),
    (b"", "rows.jsonl", {}, "/file"),
    (ROWS + b"nonsense", "rows.jsonl", {}, "/file"),
    (ROWS + b'{"text": 1}\n', "rows.jsonl", {}, "/file/text"),
    (b"\xff\xfe", "rows.txt", {}, "/file"),
])  # fmt: skip
def test_what_is_refused_leaves_nothing(
    client: TestClient, upload: Upload, settings: Settings, content: bytes, file_name: str, fields: Any, pointer: str
) -> None:
    response = upload(content, file_name, **fields)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    (error,) = response.json()["errors"]
    assert error["pointer"] == pointer
    assert error["expected"]
    assert nothing_is_left(client, settings)


def test_the_bad_line_is_named(upload: Upload) -> None:
    (error,) = upload(ROWS + b'{"text": 1}\n').json()["errors"]
    assert error == {
        "pointer": "/file/text",
        "detail": "line 3 has no string as `text`",
        "value": 1,
        "expected": "a string",
        "line": 3,
    }


@pytest.mark.parametrize(("content_type", "body", "status"), [
    ("application/json", b"{}", 415),
    ("", b"", 415),
    ("multipart/form-data", b"x", 400),
    ("multipart/form-data; boundary=b", b"nonsense", 400),
    ("multipart/form-data; boundary=b", b"", 400),
    ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc', 400),
    ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--b--\r\n", 400),
    ("multipart/form-data; boundary=b",
     b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\na\r\n--b--\r\n', 422),
    ("multipart/form-data; boundary=b",
     2 * b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n' + b"--b--\r\n", 422),
    ("multipart/form-data; boundary=b",
     2 * b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nabc\r\n' + b"--b--\r\n", 422),
    ("multipart/form-data; boundary=b",
     b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + b"a" * 5000 + b"\r\n--b--\r\n", 422),
    ("multipart/form-data; boundary=b",
     20 * b'--b\r\nContent-Disposition: form-data; name="x%d"\r\n\r\nabc\r\n' + b"--b--\r\n", 422),
])  # fmt: skip
def test_bodies_that_are_no_such_form(
    client: TestClient, settings: Settings, content_type: str, body: bytes, status: int
) -> None:
    response = client.post("/datasets", content=body, headers={"content-type": content_type} if content_type else {})
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert nothing_is_left(client, settings)


def test_too_large(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(max_dataset_bytes=100_000, max_body_bytes=2000)
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        fits = client.post("/datasets", files={"file": ("a.txt", b"a" * 100_000)})
        assert fits.status_code == 201  # though longer than other bodies may be
        for size in (100_001, 1_000_000):
            response = client.post("/datasets", files={"file": ("b.txt", b"b" * size)})
            assert response.status_code == 413
            assert "SECATEUR_MAX_DATASET_BYTES" in response.json()["detail"]
            assert "100,000" in response.json()["detail"] or "165536" in response.json()["detail"]
        assert len(stored_files(settings)) == 1


def test_the_key_is_asked_for_before_the_body(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(api_keys="one")
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        assert client.post("/datasets", content=b"no form").status_code == 401
        assert client.post("/datasets", content=b"x", headers={"authorization": "Bearer one"}).status_code == 415


def test_pages(client: TestClient, upload: Upload) -> None:
    ids = [upload(b"text %d" % number, "a.txt").json()["id"] for number in range(5)]
    found, cursor = [], None
    while True:
        page = client.get("/datasets", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        found += [item["id"] for item in page.json()["data"]]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            break
        assert f"cursor={cursor}" in page.headers["link"]
    assert found == ids[::-1]
    assert client.get("/datasets", params={"cursor": "nonsense"}).status_code == 422


@pytest.mark.parametrize("path", ["", "/content"])
def test_one_that_there_is_not(client: TestClient, path: str) -> None:
    assert client.get(f"/datasets/{uuid4()}{path}").status_code == 404
    assert client.delete(f"/datasets/{uuid4()}").status_code == 404
    assert client.get(f"/datasets/7{path}").status_code == 422


# --- jobs that use them ------------------------------------------------------------------------------------------


def of(dataset: Any, **more: Any) -> dict[str, Any]:
    return {"source": "upload", "id": dataset["id"] if isinstance(dataset, dict) else str(dataset), **more}


def test_a_job_names_it_wherever_a_text_stands(upload: Upload, submit: Callable[..., dict[str, Any]]) -> None:
    text = of(upload(b"words\n", "a.txt").json())
    job = submit(
        scoring={"criterion": "perplexity", "calibration": {"text": {**text, "stop": 0.5}}},
        recovery={"kind": "lora", "text": {**text, "start": 0.5}},
        benchmark={"perplexity": {"texts": [text, {"source": "self"}]}},
    )
    assert job["spec"]["recovery"]["text"] == {**text, "start": 0.5, "stop": 1.0}


def test_every_unknown_id_is_named(client: TestClient, spec: dict[str, Any], make_settings: Any) -> None:
    missing = uuid4()
    body = {
        **spec,
        "recovery": {"kind": "lora", "text": of(missing)},
        "benchmark": {"perplexity": {"texts": [{"source": "self"}, of(missing)]}},
    }
    response = client.post("/jobs", json=body)
    assert response.status_code == 422
    assert [(error["pointer"], error["value"]) for error in response.json()["errors"]] == [
        ("/recovery/text/id", str(missing)),
        ("/benchmark/perplexity/texts/1/id", str(missing)),
    ]


@pytest.mark.parametrize(("place", "pointer", "expected"), [
    ({"recovery": {"kind": "lora"}}, "/recovery/format", "alpaca"),
    ({"recovery": {"kind": "lora", "format": "chat"}}, "/recovery/format", "alpaca"),
    ({"recovery": {"kind": "healing"}}, "/recovery/text/id", "a data set of plain text"),
])  # fmt: skip
def test_the_kind_must_suit_the_place(
    client: TestClient, upload: Upload, spec: dict[str, Any], place: Any, pointer: str, expected: str
) -> None:
    place["recovery"]["text"] = of(upload(ALPACA, "alpaca.jsonl").json())
    response = client.post("/jobs", json={**spec, **place})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert (error["pointer"], error["expected"]) == (pointer, expected)
    for kind in ("lora", "distill", "continued"):
        good = {"kind": kind, "text": place["recovery"]["text"], "format": "alpaca"}
        assert client.post("/jobs", json={**spec, "recovery": good}).status_code == 202
    prompts = {"source": "answers", "prompts": place["recovery"]["text"]}
    assert client.post("/jobs", json={**spec, "recovery": {"text": prompts}}).status_code == 202


def test_it_stays_while_a_job_uses_it(
    client: TestClient, upload: Upload, submit: Any, worker: PlayedWorker, settings: Settings
) -> None:
    dataset = upload(b"words\n", "a.txt").json()
    other = upload(b"other\n", "b.txt").json()
    job = submit(scoring={"criterion": "taylor", "calibration": {"text": of(dataset)}})
    response = client.delete(f"/datasets/{dataset['id']}")
    assert response.status_code == 409
    assert job["id"] in response.json()["detail"]
    assert client.delete(f"/datasets/{other['id']}").status_code == 204
    worker.finish(job["id"])
    assert client.delete(f"/datasets/{dataset['id']}").status_code == 204
    assert client.get(f"/datasets/{dataset['id']}").status_code == 404
    assert not [path for path in stored_files(settings) if "datasets" in path.parts]
    assert upload(b"words\n", "a.txt").status_code == 201


def test_a_deletion_waits_for_a_submission(sessions: SessionFactory, upload: Upload) -> None:
    """A data set that a job is just being made with cannot go before the job is seen."""
    from uuid import UUID

    dataset_id = UUID(upload(b"words\n", "a.txt").json()["id"])
    outcome: list[str] = []

    def delete() -> None:
        with unit_of_work(sessions) as session:
            outcome.append("began")
            dataset_rows.delete(session, dataset_id)
            outcome.append("deleted")

    thread = threading.Thread(target=delete)
    with unit_of_work(sessions) as session:
        assert set(dataset_rows.hold(session, {dataset_id})) == {dataset_id}
        thread.start()
        while not outcome:
            time.sleep(0.01)
        thread.join(0.3)
        assert outcome == ["began"]
    thread.join()
    assert outcome == ["began", "deleted"]


# --- on a real server --------------------------------------------------------------------------------------------


def test_a_client_that_goes_away_leaves_nothing(application: FastAPI, settings: Settings) -> None:
    head = (
        "POST /datasets HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        'Content-Length: 1000000\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    )
    partial = settings.data_dir / "artifacts" / ".partial"
    with serving(application) as url:
        host = urlsplit(url).netloc
        with socket.create_connection((urlsplit(url).hostname or "", urlsplit(url).port or 0)) as connection:
            connection.sendall(head.format(host=host).encode() + b"words " * 50_000)
            give_up = time.monotonic() + 60
            while not stored_files(settings):
                assert time.monotonic() < give_up
                time.sleep(0.01)
        while list(partial.iterdir()):
            assert time.monotonic() < give_up
            time.sleep(0.01)
    assert stored_files(settings) == []


def test_a_file_goes_through_piece_by_piece(
    application: FastAPI, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """By the client, on a real connection: the body is never in memory as a whole."""
    from secateur.client.http_client import Client

    longest = 0
    feed = FormReceiver.feed

    def watched(receiver: Any, chunk: bytes) -> None:
        nonlocal longest
        longest = max(longest, len(chunk))
        feed(receiver, chunk)

    monkeypatch.setattr(FormReceiver, "feed", watched)
    path = settings.data_dir.parent / "large.jsonl"
    path.write_text("".join(json.dumps({"text": f"row {n} " * 20}) + "\n" for n in range(40_000)))
    with serving(application) as url, Client(url) as client:
        dataset = client.datasets.create(path)
        assert (dataset.rows, dataset.size) == (40_000, path.stat().st_size)
        assert client.datasets.create(path, name="again") == dataset == client.datasets.retrieve(dataset.id)
        assert list(client.datasets.list()) == [dataset]
        client.datasets.delete(dataset.id)
        assert list(client.datasets.list()) == []
    assert 0 < longest < 1_000_000


def test_first_rows_are_shown(client: TestClient, upload: Upload) -> None:
    added = upload().json()["id"]
    first = {"number": 1, "fields": {"text": "one"}, "cut": False, "seen": None}
    second = {"number": 2, "fields": {"text": "two"}, "cut": False, "seen": None}
    assert client.get(f"/datasets/{added}/rows").json() == {"data": [first, second], "model": None}
    short = client.get(f"/datasets/{added}/rows", params={"limit": 1, "characters": 2}).json()
    assert short["data"] == [first | {"fields": {"text": "on"}, "cut": True}]
    assert client.get(f"/datasets/{uuid4()}/rows").status_code == 404
    refused = client.get(f"/datasets/{added}/rows", params={"model": "../../etc"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["parameter"] == "query model"
    assert client.get(f"/datasets/{added}/rows", params={"limit": 101}).status_code == 422
