"""Requests that no client of good will sends, byte by byte, to every endpoint: no 5xx, every refusal a problem."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.local.embedded import PostgresServer, ValkeyServer
from app.main import create_app
from app.settings import Settings
from tests.fixtures.live import serving
from tests.fixtures.servers import database_of

JOB = "019ab8e0-6a1c-7c5e-9d3f-2b6f0c9d4e11"
HEADERS = [
    *(
        b"Accept: " + value
        for value in (b"", b"*", b"/", b"text/\xff", b";q=x,,;", b"a/b;q=9" * 500, b"text/event-stream")
    ),
    *(
        b"Cookie: " + value
        for value in (b"\xff\xfe=\x80", b"secateur_session=" + b"x" * 9000, b"secateur_session=\xff", b"=")
    ),
    *(
        b"Authorization: " + value
        for value in (b"", b"Bearer", b"Bearer \xff\xff", b"Basic \xc3", b"Bearer " + b"x" * 9000)
    ),
    *(
        b"Content-Type: " + value
        for value in (b"", b"\xff", b"multipart/form-data", b"multipart/form-data; boundary=\xff")
    ),
    *(
        b"Content-Type: " + value
        for value in (b"application/json; charset=nonsense", b"application/x-www-form-urlencoded")
    ),
    *(
        b"Range: " + value
        for value in (b"bytes=", b"bytes=9-1", b"bytes=-0", b"bytes=" + b"1-2," * 500, b"lines=1-2", b"\xff")
    ),
    *(b"If-None-Match: " + value for value in (b"\xff", b'W/"', b"*," * 500)),
    *(b"If-Range: " + value for value in (b"\xff", b"Thu, 99 Xxx 9999 99:99:99 GMT")),
    *(b"Last-Event-ID: " + value for value in (b"-1", b"9" * 400, b"\xff", b"1e3", "٣".encode())),
    *(b"Idempotency-Key: " + value for value in (b"", b"\xff", b"x" * 9000)),
    *(b"Cancel-After: " + value for value in (b"\xff", b"9" * 400, b"-1s", b"nan", b"1e999")),
    *(b"X-Request-Id: " + value for value in (b"\xff", b"x" * 9000, b"a\tb")),
    *(b"Origin: " + value for value in (b"null", b"http://[", b"\xff", b"http://" + b"x" * 9000)),
    *(b"Sec-Fetch-Site: \xff", b"Referer: http://[", b"X-Forwarded-For: \xff", b"X-Forwarded-Proto: \xff"),
    *(b"Content-Encoding: gzip", b"Expect: nonsense", b"Upgrade: websocket\r\nConnection: upgrade", b"TE: trailers"),
]
PATHS = [
    *(
        "/%00",
        "/%ff",
        "/%",
        "/%zz",
        "//",
        "///jobs",
        "/./jobs",
        "/../jobs",
        "/jobs/",
        "/jobs/%00",
        "/jobs/%ff",
        "/jobs/..%2f",
    ),
    *(f"/jobs/{JOB}%00", f"/jobs/{JOB}/artifacts/%00", f"/jobs/{JOB}/artifacts/..%2f..%2fetc%2fpasswd", "/jobs/٣"),
    *(f"/jobs/{JOB}/artifacts/%ff", f"/jobs/{JOB}/report.%00", f"/jobs/{JOB}/report.exe", "/jobs/" + "9" * 9000),
    *("/jobs?limit=%00", "/jobs?limit=9" + "9" * 400, "/jobs?limit=%D9%A3", "/jobs?cursor=%00", "/jobs?cursor=%ff"),
    *("/jobs?label=%00", "/jobs?label=a%00=b", "/jobs?model=%00", "/jobs?status=%ff", "/jobs?" + "a=b&" * 3000),
    *(
        "/datasets/%00",
        "/datasets/..",
        f"/datasets/{JOB}/content",
        "/datasets?cursor=%00",
        "/static/%00",
        "/static/..%2f",
    ),
    *(
        "/static/../main.py",
        "/static/%ff",
        "/ui/jobs/%00",
        "/ui/jobs/%ff",
        "/ui?cursor=%00",
        "/ui?status=%00",
        "/docs/%00",
    ),
    *("/ui/datasets?cursor=%ff", "/openapi.json/", "/metrics/%00", "http://evil.example/jobs", "*", "/jobs#fragment"),
]
METHODS = ["TRACE", "CONNECT", "PROPFIND", "get", "X" * 100, "OPTIONS", "HEAD", "PUT", "PATCH", "DELETE"]


@pytest.fixture(scope="module")
def served(
    postgres_server: PostgresServer,
    template_database: str,
    valkey_server: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, dict[str, Any]]]:
    for url in database_of(postgres_server, template_database):
        folder: Path = tmp_path_factory.mktemp("hostile")
        app = create_app(Settings(database_url=url, redis_url=valkey_server.url, data_dir=folder))
        with serving(app) as address:
            yield address, app.openapi()


def ask(url: str, request: bytes) -> tuple[int, str, bytes]:
    """Status, media type and body of the answer; (0, "", b"") where the connection was closed without one."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
    head, _, body = received.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1.1 (\d+)", head)
    media_type = re.search(rb"(?im)^content-type: *([^;\r]*)", head)
    return int(found[1]) if found else 0, media_type[1].decode() if media_type else "", body


def check(url: str, request: bytes, *, page: bool = False) -> None:
    """A refusal is a problem; of the dashboard's pages, it may be a page."""
    status, media_type, body = ask(url, request)
    assert 0 < status < 500 or status == 501, (status, request[:300], body[:500])
    if status >= 400 and not request.startswith(b"HEAD"):
        allowed = {"application/problem+json", *(["text/html"] if page else [])}
        assert media_type in allowed, (status, media_type, request[:300], body[:300])


def endpoints(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, operations in document["paths"].items():
        for method in operations:
            if method in ("get", "post", "delete", "head"):
                yield method.upper(), re.sub(r"\{[^}]*\}", JOB, path)
    for path in ("/", "/login", "/ui", "/ui/new", "/ui/datasets", f"/ui/jobs/{JOB}", "/docs", "/static/app.js"):
        yield "GET", path
    for path in ("/login", "/logout"):
        yield "POST", path


@pytest.mark.thorough
def test_hostile_headers_everywhere(served: tuple[str, dict[str, Any]]) -> None:
    url, document = served
    for number, (method, path) in enumerate(endpoints(document)):
        for header in HEADERS[number % 3 :: 3]:  # a third of them, and all of them at every three endpoints
            body = b'{"model": 1}' if method == "POST" else b""
            lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", b"Connection: close", header]
            lines.append(b"Content-Length: %d" % len(body))
            request = b"\r\n".join(lines) + b"\r\n\r\n" + body
            check(url, request, page=path.startswith(("/ui", "/log")))


def test_hostile_paths_and_methods(served: tuple[str, dict[str, Any]]) -> None:
    url, _ = served
    for path in PATHS:
        for method in ("GET", "POST", "DELETE"):
            request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            check(url, request, page=path.startswith("/ui"))
    for method in METHODS:
        for path in ("/", "/jobs", f"/jobs/{JOB}", "/healthz", "/ui", "/login", "/static/app.js"):
            request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            check(url, request, page=path.startswith("/ui"))


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\xff\xfe", b"[" * 20_000, b"{" * 20_000, b'{"a":' * 20_000, b"null", b"[]", b'"x"', b"1e999", b"NaN"),
        *(b'{"model": "\\u0000"}', b'{"model": "\\ud800"}', b'{"model": {"source": "hub", "id": "a/\\u0000"}}'),
        *(
            b'{"a": 1' + b"0" * 5000 + b"}",
            b'{"pruning": {"blocks": ' + b"9" * 5000 + b"}}",
            b'{"' + b"x" * 90_000 + b'": 1}',
        ),
        b'{"model":{"source":"hub","id":"a/b"},"pruning":{"kind":"depth","blocks":1},"labels":{"a":"\\u0000"}}',
        b'{"model":{"source":"hub","id":"a/b"},"pruning":{"kind":"depth","blocks":1},"labels":{"a":"\\ud800"}}',
        b'{"model":{"source":"local","path":"\\u0000"},"pruning":{"kind":"depth","blocks":1}}',
        b'{"model":{"source":"local","path":"' + b"a/" * 5000 + b'"},"pruning":{"kind":"depth","blocks":1}}',
    ],
    ids=lambda body: body[:40].decode("latin-1").encode("ascii", "backslashreplace").decode(),
)
def test_hostile_bodies(served: tuple[str, dict[str, Any]], body: bytes) -> None:
    url, document = served
    for method, path in endpoints(document):
        if method == "POST":
            for kind in (b"application/json", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x"):
                lines = [f"POST {path} HTTP/1.1".encode(), b"Host: localhost", b"Connection: close"]
                lines += [b"Content-Type: " + kind, b"Content-Length: %d" % len(body)]
                check(url, b"\r\n".join(lines) + b"\r\n\r\n" + body, page=path == "/login")
