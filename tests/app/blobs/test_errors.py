"""A store that fails is told in one way, and soon; one that is full is told apart."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.blobs.errors import StoreFailed, is_full
from app.blobs.store import LocalStore, RemoteStore
from app.deps import get_store
from app.main import create_app
from app.services import readiness
from app.settings import Settings

UPLOAD = {"file": ("a.jsonl", b'{"text": "one"}\n')}


def client_error(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")


def wrapped(code: str, status: int) -> OSError:
    """As s3fs makes one."""
    error = OSError(errno.EIO, code)
    error.__cause__ = client_error(code, status)
    return error


class Failing:
    """A file system all of whose calls fail alike."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any, **__: Any) -> Any:
            raise self._error

        return fail


AWAY = [
    EndpointConnectionError(endpoint_url="http://s3"),
    client_error("SlowDown", 503),
    wrapped("AccessDenied", 403),
    PermissionError("no"),
    TimeoutError(),
]
FULL = [
    client_error("XMinioStorageFull", 507),
    client_error("Whatever", 507),
    wrapped("QuotaExceeded", 403),
    OSError(errno.ENOSPC, "no room"),
    OSError(errno.EDQUOT, "quota"),
]


@pytest.mark.parametrize("error", [*AWAY, *FULL], ids=repr)
def test_every_error_of_a_bucket_is_a_store_that_failed(error: Exception, tmp_path: Path) -> None:
    store = RemoteStore(Failing(error), "bucket")
    (tmp_path / "file").write_bytes(b"x")
    calls: list[Callable[[], Any]] = [
        store.ready,
        lambda: store.put_folder(tmp_path, "datasets/a/b", check=lambda: None),
        lambda: list(store.chunks("key")),
        lambda: store.delete_folder("datasets/a/b"),
        lambda: list(store.attempts()),
    ]
    for call in calls:
        with pytest.raises(StoreFailed) as raised:
            call()
        assert is_full(raised.value) is (error in FULL)


def test_a_defect_is_no_store_that_failed() -> None:
    with pytest.raises(ZeroDivisionError):
        RemoteStore(Failing(ZeroDivisionError()), "bucket").ready()


@pytest.mark.parametrize("error", FULL, ids=repr)
def test_an_upload_to_a_full_bucket_is_507(application: FastAPI, error: Exception) -> None:
    application.dependency_overrides[get_store] = lambda: RemoteStore(Failing(error), "bucket")
    with TestClient(application, base_url="http://localhost") as client:
        response = client.post("/datasets", files=UPLOAD)
        assert response.status_code == 507
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["type"].endswith("/insufficient-storage")
        assert client.get("/datasets").json()["data"] == []


@pytest.mark.parametrize("error", AWAY, ids=repr)
def test_an_upload_to_a_bucket_that_is_away_is_503(application: FastAPI, error: Exception) -> None:
    application.dependency_overrides[get_store] = lambda: RemoteStore(Failing(error), "bucket")
    with TestClient(application, base_url="http://localhost") as client:
        response = client.post("/datasets", files=UPLOAD)
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert "http://s3" not in response.text


@pytest.mark.parametrize("at", ["write", "link", "fsync", "mkdir"])
def test_an_upload_to_a_full_disk_is_507_and_leaves_nothing(
    application: FastAPI, settings: Settings, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Wherever the disk is found to be full."""

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    targets = {
        "write": ("app.http.multipart.FormReceiver.feed", full),
        "link": ("app.blobs.store._link_or_copy", full),
        "fsync": ("app.blobs.store._sync_folder", full),
        "mkdir": ("app.blobs.store.LocalStore.staging", full),
    }
    with TestClient(application, base_url="http://localhost") as client:
        with monkeypatch.context() as patch:
            patch.setattr(*targets[at])
            assert client.post("/datasets", files=UPLOAD).status_code == 507
        assert client.get("/datasets").json()["data"] == []
        assert client.post("/datasets", files=UPLOAD).status_code == 201
    partial = Path(settings.store_url.removeprefix("file://")) / ".partial"
    assert list(partial.glob("*")) == []


def test_readiness_names_a_store_that_fails(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    app = create_app(make_settings(artifacts_url=(tmp_path / "file" / "store").as_uri()))
    with TestClient(app, base_url="http://localhost") as client:
        response = client.get("/readyz")
    assert response.status_code == 503
    failed = {name: check["detail"] for name, check in response.json()["checks"].items() if not check["ok"]}
    assert failed.keys() == {"store", "workers"}  # none is up here
    assert failed["store"] == "no answer (NotADirectoryError)"


def test_readiness_does_not_wait_for_what_hangs(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = threading.Event()
    monkeypatch.setattr(LocalStore, "ready", lambda self: hanging.wait(60))
    monkeypatch.setattr(readiness, "ASK_SECONDS", 4.0)  # which the others need on a busy machine
    with TestClient(create_app(make_settings()), base_url="http://localhost") as client:
        response = client.get("/readyz")
        assert client.get("/healthz").status_code == 200
        hanging.set()
    failed = {name: check["detail"] for name, check in response.json()["checks"].items() if not check["ok"]}
    assert failed.keys() == {"store", "workers"}  # none is up here
    assert failed["store"] == "no answer within 4 s"


def s3_environment(port: int) -> dict[str, str]:
    """For a bucket at this port of this machine."""
    return {
        **os.environ,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def test_an_s3_that_is_stopped_is_told_within_seconds() -> None:
    """In a process of its own: s3fs keeps its connections for the process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    code = (
        "from app.blobs.store import open_store\n"
        "from app.blobs.errors import StoreFailed\n"
        "try: open_store('s3://bucket/x').ready()\n"
        "except StoreFailed as error: print('told', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=s3_environment(port), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("told ")


class FullBucket(BaseHTTPRequestHandler):
    """What MinIO answers when its disks are full."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(507, b"<Error><Code>XMinioStorageFull</Code><Message>no room</Message></Error>")

    def do_GET(self) -> None:
        self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")

    do_POST = do_PUT
    do_HEAD = do_DELETE = do_GET

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def test_a_full_bucket_is_told_over_the_wire(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x" * 100)
    code = (
        "import sys, pathlib\n"
        "from app.blobs.store import open_store\n"
        "from app.blobs.errors import StoreFailed, is_full\n"
        "try: open_store('s3://bucket/x').put_folder(pathlib.Path(sys.argv[1]), 'datasets/a/b', check=lambda: None)\n"
        "except StoreFailed as error: print('full' if is_full(error) else error)\n"
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), FullBucket) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            done = subprocess.run(
                [sys.executable, "-c", code, str(tmp_path / "folder")],
                env=s3_environment(server.server_port),
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
        finally:
            server.shutdown()
            serving.join()
    assert done.stdout == "full\n", done.stderr
