"""Slow clients, spoken by hand over sockets: they end, and others are answered meanwhile."""

from __future__ import annotations

import json
import re
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.http.connections import Limits
from app.main import create_app
from app.settings import Settings
from tests.fixtures.live import serving
from tests.fixtures.processes import SECATEUR, free_port, secateur_environment

QUICK = Limits(connections=20, head_seconds=0.5, body_seconds=0.5, least_rate=1000.0, send_seconds=0.5)
HEAD = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def application() -> FastAPI:
    app = create_app(Settings(database_url=None, redis_url=None))

    @app.get("/endless")
    def endless() -> Any:
        from starlette.responses import StreamingResponse

        return StreamingResponse(b"x" * 65536 for _ in range(100_000))

    return app


@pytest.fixture(scope="module")
def url(application: FastAPI) -> Iterator[str]:
    with serving(application, limits=QUICK) as url:
        yield url


@contextmanager
def connected(url: str, sent: bytes = b"") -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(sent)
        yield connection


def answer(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """All that comes until the other side closes: status, headers, and the problem in the body."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    return int(lines[0].split()[1]) if head else 0, headers, json.loads(body) if body else None


@pytest.mark.parametrize(
    "sent", [b"", b"G", b"GET /healthz HTTP/1.1\r\n", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: b"]
)
def test_a_head_that_does_not_come_is_not_waited_for(url: str, sent: bytes) -> None:
    with connected(url, sent) as connection:
        status, headers, problem = answer(connection)
    assert (status, headers["content-type"], headers["connection"]) == (408, "application/problem+json", "close")
    assert problem["type"].endswith("/request-timeout")


def test_a_head_that_drips_is_not_waited_for_either(url: str) -> None:
    with connected(url, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n") as connection:
        stopped = threading.Event()

        def drip() -> None:
            while not stopped.wait(0.1):
                try:
                    connection.sendall(b"X-Drip: 1\r\n")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            with suppress(ConnectionResetError):  # it may write on after the end
                assert answer(connection)[0] == 408
        finally:
            stopped.set()
            dripping.join()


def test_the_second_request_of_a_connection_is_watched_too(url: str) -> None:
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(url, whole + b"GET /heal") as connection:
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"408"]


@pytest.mark.parametrize(
    "sent", [HEAD % 1000, HEAD % 1000 + b"{", HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")]
)
def test_a_body_that_does_not_come_is_not_waited_for(url: str, sent: bytes) -> None:
    with connected(url, sent) as connection:
        status, headers, problem = answer(connection)
    assert (status, headers["content-type"]) == (408, "application/problem+json")
    assert "slower than 1000 bytes a second" in problem["detail"]


def test_a_body_that_comes_slowly_but_steadily_is_taken(url: str) -> None:
    with connected(url, HEAD % 60_000) as connection:
        pause = threading.Event()
        for _ in range(12):  # 25,000 bytes a second where 1,000 are enough, for longer than two looks
            connection.sendall(b" " * 5000)
            pause.wait(0.2)
        connection.settimeout(30)
        assert b"400 Bad Request" in connection.recv(65536)


def test_a_response_that_is_not_taken_ends(url: str) -> None:
    with connected(url, b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n") as connection:
        pause = threading.Event()
        pause.wait(3.0)
        received = 0
        while chunk := connection.recv(1 << 20):
            received += len(chunk)
    assert 0 < received < 1 << 30  # of six times as much


def test_a_crowd_of_half_sent_requests_keeps_nobody_waiting(url: str) -> None:
    with ExitStack() as stack:
        for number in range(100):
            stack.enter_context(connected(url, HEAD % 1000 if number % 2 else b"GET /healthz HTTP/1.1\r\nHo"))
            if number % 10 == 9:
                assert httpx.get(f"{url}/healthz", timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /h ealthz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: " + b"x" * 70_000, 431),
        (b"POST /jobs HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS
    ],
)
def test_what_is_no_http_is_a_problem_too(url: str, sent: bytes, status: int) -> None:
    with connected(url, sent) as connection:
        got, headers, problem = answer(connection)
    assert (got, headers["content-type"], problem["status"]) == (status, "application/problem+json", status)


@pytest.mark.thorough
def test_three_hundred_half_sent_requests_under_256_descriptors(
    database_url: str, redis_url: str, tmp_path: Any
) -> None:
    """The program itself, as a shell would start it with so few descriptors that it cannot raise them."""
    port = free_port()
    settings = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "PORT": str(port), "DATA_DIR": str(tmp_path)}
    process = subprocess.Popen(
        [SECATEUR, "api"],
        env=secateur_environment(**{f"SECATEUR_{name}": value for name, value in settings.items()}),
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)),
    )
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=60, transport=httpx.HTTPTransport(retries=8)) as client:
            until(lambda: client.get("/healthz").status_code == 200)
        with ExitStack() as stack:
            for number in range(300):
                stack.enter_context(connected(url, HEAD % 1000 if number % 2 else b"GET /healthz HTTP/1.1\r\nHo"))
            for _ in range(3):
                assert httpx.get(f"{url}/healthz", timeout=60).status_code == 200
                assert httpx.get(f"{url}/jobs", timeout=60).status_code == 200
    finally:
        process.terminate()
        process.wait(60)


def until(condition: Callable[[], bool], patience: float = 60.0) -> None:
    import time

    give_up = time.monotonic() + patience
    while True:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.1)


def test_descriptors_are_raised_to_what_the_system_allows() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 1000)); from app.serve import "
        "raise_descriptors as r; print(r(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1000", "1000"]
