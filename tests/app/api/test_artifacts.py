"""Listing and downloading a job's files: whole, in ranges, conditionally, and nothing that is not the job's."""

from __future__ import annotations

import base64
import hashlib
import resource
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.db import artifacts
from app.db.session import SessionFactory, unit_of_work
from tests.fixtures.live import serving
from tests.fixtures.played_worker import PlayedWorker

Submit = Callable[..., dict[str, Any]]
CONTENT = bytes(range(256)) * 40  # 10,240 bytes
PATH = "prune/checkpoint/model.safetensors"


@pytest.fixture
def job_id(submit: Submit, worker: PlayedWorker) -> str:
    job = submit()["id"]
    worker.succeed(worker.reach(job, "score"), {"scores.json": b"{}"})
    worker.succeed(worker.claim(job), {"checkpoint/model.safetensors": CONTENT, "empty.txt": b""})
    return str(job)


def get(client: TestClient, job_id: str, path: str = PATH, **headers: str) -> Any:
    return client.get(
        f"/jobs/{job_id}/artifacts/{path}", headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def test_the_list_has_every_file_with_size_and_checksum(client: TestClient, job_id: str) -> None:
    listed = client.get(f"/jobs/{job_id}/artifacts").json()["data"]
    assert [(item["path"], item["stage"], item["size"]) for item in listed] == [
        (PATH, "prune", len(CONTENT)),
        ("prune/empty.txt", "prune", 0),
        ("score/scores.json", "score", 2),
    ]
    assert listed[0]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert listed[2]["content_type"] == "application/json"


def test_a_file_comes_whole_with_its_checksum(client: TestClient, job_id: str) -> None:
    response = get(client, job_id)
    digest = hashlib.sha256(CONTENT)
    assert (response.status_code, response.content) == (200, CONTENT)
    assert response.headers["etag"] == f'"{digest.hexdigest()}"'
    assert response.headers["x-checksum-sha256"] == digest.hexdigest()
    assert response.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert response.headers["content-length"] == str(len(CONTENT))
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]


def test_a_measured_models_card_is_the_one_with_its_figures(
    client: TestClient, submit: Submit, worker: PlayedWorker, sessions: SessionFactory
) -> None:
    """And what the stage published stays as it is, for jobs that share it."""
    job = submit()["id"]
    path = "prune/checkpoint/README.md"
    early, final = b"not measured", b"# measured"
    worker.succeed(worker.reach(job, "prune"), {"checkpoint/README.md": early})
    assert client.get(f"/jobs/{job}/artifacts/{path}").content == early
    worker.finish(job, {"report": {f"cards/{path}": final, "cards/recover/checkpoint/README.md": b"of no file"}})
    assert client.get(f"/jobs/{job}/artifacts/{path}").content == final
    listed = {file["path"]: file for file in client.get(f"/jobs/{job}/artifacts").json()["data"]}
    assert list(listed) == [path]
    assert listed[path]["stage"] == "prune"
    assert listed[path]["sha256"] == hashlib.sha256(final).hexdigest()
    assert client.get(f"/jobs/{job}/artifacts/recover/checkpoint/README.md").status_code == 404
    with unit_of_work(sessions) as session:
        kept = artifacts.files_of_stage(session, UUID(job), "prune")
    assert [file.sha256 for file in kept] == [hashlib.sha256(early).hexdigest()]


def test_ranges(client: TestClient, job_id: str) -> None:
    for header, start, stop in [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, 10240),
        ("bytes=-1", 10239, 10240),
        ("bytes=-500", 9740, 10240),
        ("bytes=-99999", 0, 10240),
        ("bytes=10000-99999", 10000, 10240),
        ("BYTES = 5 - 9 ", 5, 10),
    ]:
        response = get(client, job_id, range=header)
        assert response.status_code == 206
        assert response.content == CONTENT[start:stop]
        assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/10240"
        assert response.headers["content-length"] == str(stop - start)


def test_ranges_behind_the_end(client: TestClient, job_id: str) -> None:
    for header in ["bytes=10240-", "bytes=99999-100000", "bytes=-0"]:
        response = get(client, job_id, range=header)
        assert response.status_code == 416
        assert response.headers["content-range"] == "bytes */10240"
        assert response.json()["type"].endswith("range-not-satisfiable")


def test_ranges_that_are_passed_over(client: TestClient, job_id: str) -> None:
    for header in [
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-2",
        "bytes=0-1,5-6",
        "lines=0-5",
        "bytes=" + "9" * 40 + "-",
    ]:
        response = get(client, job_id, range=header)
        assert (response.status_code, response.content) == (200, CONTENT)


def test_if_range_sends_a_changed_file_whole(client: TestClient, job_id: str) -> None:
    etag = get(client, job_id).headers["etag"]
    assert get(client, job_id, range="bytes=0-4", if_range=etag).status_code == 206
    for other in ('"other"', f"W/{etag}", "Tue, 24 Nov 2026 18:30:00 GMT"):
        assert get(client, job_id, range="bytes=0-4", if_range=other).status_code == 200


def test_if_none_match(client: TestClient, job_id: str) -> None:
    etag = get(client, job_id).headers["etag"]
    for known in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        response = get(client, job_id, if_none_match=known)
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
    assert get(client, job_id, if_none_match='"x"').status_code == 200


def test_head_tells_what_get_would(client: TestClient, job_id: str) -> None:
    head, whole = client.head(f"/jobs/{job_id}/artifacts/{PATH}"), get(client, job_id)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-length", "content-type", "x-checksum-sha256"):
        assert head.headers[name] == whole.headers[name]


def test_an_empty_file(client: TestClient, job_id: str) -> None:
    response = get(client, job_id, "prune/empty.txt")
    assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "0")
    assert get(client, job_id, "prune/empty.txt", range="bytes=0-").status_code == 416


def test_nothing_else_can_be_reached(client: TestClient, job_id: str) -> None:
    for path in [
        "prune/checkpoint/absent",
        "prune/checkpoint",
        "../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "prune/%2e%2e/score/scores.json",
        "prune%00",
        "prune\\..\\x",
    ]:
        response = get(client, job_id, path)
        assert response.status_code in (404, 405)
        assert response.headers["content-type"] == "application/problem+json"


def test_another_jobs_files_cannot_be_reached(client: TestClient, job_id: str, submit: Submit) -> None:
    assert get(client, submit()["id"]).status_code == 404


def test_a_file_that_the_store_has_lost_is_not_found(client: TestClient, job_id: str, worker: PlayedWorker) -> None:
    for _, _, output in list(worker.store.attempts()):
        worker.store.delete_folder(output)
    assert get(client, job_id).status_code == 404


def test_a_large_file_is_streamed(application: FastAPI, spec: dict[str, Any], worker: PlayedWorker) -> None:
    """Memory grows by far less than the file's size."""
    size = 256 * 2**20
    with serving(application) as url, httpx.Client(base_url=url, timeout=60) as client:
        job = client.post("/jobs", json=spec).json()["id"]
        worker.succeed(worker.reach(job, "score"), {"scores.json": b"{}"})
        worker.succeed(worker.claim(job), {"checkpoint/model.safetensors": CONTENT})
        stored = next(path for path in worker.scratch.rglob("model.safetensors"))
        with stored.open("r+b") as file:  # the store's file is a hard link to it; sparse, so it takes no disk
            file.truncate(size)
        from app.db.session import unit_of_work
        from app.db.tables.job_records import Artifact

        with unit_of_work(worker.sessions) as session:
            session.query(Artifact).filter_by(path=PATH).update({"size": size})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        received = 0
        with client.stream("GET", f"/jobs/{job}/artifacts/{PATH}") as response:
            for chunk in response.iter_raw(1 << 20):
                received += len(chunk)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert received == size
    assert grown < 64 * 1024  # KiB


def test_the_report_in_every_form(client: TestClient, job_id: str, worker: PlayedWorker) -> None:
    path = f"/jobs/{job_id}/report"
    early = client.get(path)
    assert early.status_code == 404
    assert "no report yet" in early.json()["detail"]
    files = {
        "report.json": b"{}",
        "report.html": b"<!doctype html><p>report",
        "report.md": b"# report",
        "report.junit.xml": b"<testsuites/>",
    }
    worker.finish(job_id, {"report": files})
    report = client.get(path).json()
    assert report["verdict"] == "passed"
    assert client.get(f"{path}.json").json() == report
    for accept, suffix in [
        ("text/html", "html"),
        ("text/markdown", "md"),
        ("application/xml", "junit.xml"),
        ("text/xml", "junit.xml"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "html"),
    ]:
        response = client.get(path, headers={"accept": accept})
        assert (response.status_code, response.content) == (200, files[f"report.{suffix}"])
        assert response.headers["vary"] == "Accept"
        suffixed = client.get(f"{path}.{suffix}")
        assert suffixed.content == response.content
        assert suffixed.headers["content-type"].split(";")[0] in (accept.split(",")[0], "application/xml")
    assert client.get(path, headers={"accept": "image/png"}).status_code == 406
    assert client.get(f"{path}.pdf").status_code == 404


def test_scores_come_with_their_stage(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    job = submit()["id"]
    early = client.get(f"/jobs/{job}/scores")
    assert early.status_code == 404
    assert "no scores yet" in early.json()["detail"]
    worker.succeed(worker.reach(job, "score"))
    scored = client.get(f"/jobs/{job}/scores").json()
    assert (scored["order"], scored["drop"], scored["options"]["plus"]) == ([2, 1, 3, 0], [], True)
    worker.succeed(worker.claim(job))  # prunes
    assert client.get(f"/jobs/{job}/scores").json() == {**scored, "drop": [2]}


def test_a_job_that_names_its_blocks_has_no_scores(client: TestClient, submit: Submit) -> None:
    job = submit(pruning={"kind": "depth", "drop": [1]})["id"]
    response = client.get(f"/jobs/{job}/scores")
    assert response.status_code == 404
    assert "nothing was scored" in response.json()["detail"]


def test_a_failed_job_says_why_it_has_no_report(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    job = submit()["id"]
    problem = {"type": "about:blank", "title": "Stage failed", "status": 500, "detail": "out of memory"}
    worker.fail(worker.claim(job), problem)
    assert "out of memory" in client.get(f"/jobs/{job}/report").json()["detail"]
