"""Names that the service answers to, and pages that may act on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from app.http.hosts import Hosts
from app.main import create_app
from app.settings import Settings

MakeSettings = Callable[..., Settings]


def made(**values: Any) -> Settings:
    """Settings as the environment gives them."""
    return Settings(**values)


def refused(hosts: Hosts, method: str = "GET", path: str = "/jobs", **headers: str) -> int | None:
    """The status of the refusal of a request with these headers (- for _), or None."""
    given = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    error = hosts.refuse("http", method, path, given)
    return error.status if error else None


OWN = ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:8000", "127.9.9.9", "[::1]:8000", "[::1]", "10.1.2.3:80"]
STRANGE = [
    *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "evil-localhost"),
    *("127.1", "0x7f000001", "2130706433", "", " ", "localhost:", "localhost:x", "a@localhost", "localhost/", "[::1"),
    *("::1", "localhost,evil.example", "[evil.example]", "localhost:8000:1", "xn--e1afmkfd.example", "[::1]evil"),
]


@pytest.mark.parametrize("host", OWN)
def test_own_names_and_addresses_are_served(host: str) -> None:
    assert refused(Hosts(made()), host=host) is None


@pytest.mark.parametrize("host", STRANGE)
def test_names_of_others_are_not(host: str) -> None:
    assert refused(Hosts(made()), host=host) == 421
    assert refused(Hosts(made(api_keys="a-key")), host=host) == 421


def test_two_hosts_are_none() -> None:
    raw = [(b"host", b"localhost"), (b"host", b"evil.example")]
    assert Hosts(made()).refuse("http", "GET", "/", Headers(raw=raw)) is not None
    assert Hosts(made()).refuse("http", "GET", "/", Headers(raw=[])) is None  # HTTP/1.0, no browser


def test_names_of_the_settings_are_served() -> None:
    settings = made(
        public_url="https://prune.example/secateur",
        allowed_hosts="api.internal, *.cluster.local",
        host="box.lan",
        api_keys="a-key",
    )
    hosts = Hosts(settings)
    for host in ("prune.example", "api.internal:8000", "a.cluster.local", "a.b.cluster.local:80", "box.lan:8000"):
        assert refused(hosts, host=host) is None
    for host in ("cluster.local", "evilcluster.local", "prune.example.evil", "internal"):
        assert refused(hosts, host=host) == 421


@pytest.mark.parametrize("name", ["https://a", "a:80", "*", "a*", "*.*.a", "[::1]", "a/b", "a b"])
def test_what_is_no_name_is_refused_as_a_setting(name: str) -> None:
    with pytest.raises(ValidationError, match="is not a host's name"):
        made(allowed_hosts=name)


@pytest.mark.parametrize("url", ["prune.example", "ftp://a", "https://", "https://u:p@host", "javascript:alert(1)"])
def test_what_is_no_address_is_refused_as_the_public_url(url: str) -> None:
    with pytest.raises(ValidationError, match="is not an address"):
        made(public_url=url)


def test_with_a_key_programs_come_by_any_name_and_pages_do_not() -> None:
    locked, unlocked = Hosts(made(api_keys="a-key")), Hosts(made())
    key = {"host": "secateur-api:8000", "authorization": "Bearer a-key"}
    assert refused(locked, **key) is None
    assert refused(unlocked, **key) == 421  # without keys anything may stand there
    assert refused(locked, path="/healthz", host="lb.example") is None
    assert refused(unlocked, path="/healthz", host="lb.example") == 421
    assert refused(locked, host="secateur-api:8000", cookie="secateur_session=x") == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:8000"}, None),  # a program
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, None),
        ({"host": "localhost", "origin": "http://localhost:80"}, None),
        ({"host": "localhost", "origin": "https://localhost"}, None),  # a proxy speaks TLS
        ({"host": "localhost:8000", "origin": "http://localhost:3000"}, 403),
        ({"host": "localhost:8000", "origin": "http://127.0.0.1:8000"}, 403),
        ({"host": "localhost:8000", "origin": "null"}, 403),
        ({"host": "localhost:8000", "origin": "https://evil.example"}, 403),
        ({"host": "localhost:8000", "origin": "http://localhost:8000.evil.example"}, 403),
        ({"host": "localhost:8000", "origin": "http://localhost:8000@evil.example"}, 403),
        ({"host": "localhost:8000", "origin": "http://["}, 403),
        ({"host": "127.0.0.1:8000", "origin": "https://prune.example"}, None),  # the public address
        ({"host": "127.0.0.1:8000", "origin": "http://prune.example"}, 403),
        ({"host": "localhost:8000", "sec_fetch_site": "cross-site"}, 403),
        ({"host": "localhost:8000", "sec_fetch_site": "same-site"}, 403),
        ({"host": "localhost:8000", "sec_fetch_site": "same-origin"}, None),
        # with the dashboard's cookie a browser has to tell
        ({"host": "localhost:8000", "cookie": "a=b; secateur_session=x"}, 403),
        ({"host": "localhost:8000", "cookie": "secateur_session=x", "authorization": "Bearer k"}, None),
        ({"host": "localhost:8000", "cookie": "secateur_session=x", "origin": "http://localhost:8000"}, None),
        ({"host": "localhost:8000", "cookie": "secateur_session=x", "referer": "http://localhost:8000/ui"}, None),
        ({"host": "localhost:8000", "cookie": "secateur_session=x", "referer": "http://evil.example/"}, 403),
        ({"host": "localhost:8000", "cookie": "secateur_session=x", "sec_fetch_site": "same-origin"}, None),
        ({"host": "localhost:8000", "cookie": "not_secateur_session=x"}, None),
    ],
)
def test_who_may_change_something(headers: dict[str, str], status: int | None) -> None:
    hosts = Hosts(made(public_url="https://prune.example"))
    assert refused(hosts, "POST", **headers) == status
    assert refused(hosts, "GET", **headers) is None


def test_a_rebound_page_reads_nothing(client: TestClient, spec: dict[str, Any]) -> None:
    for method, path in (("GET", "/jobs"), ("GET", "/ui"), ("GET", "/"), ("GET", "/docs"), ("POST", "/jobs")):
        response = client.request(
            method, path, headers={"host": "evil.example"}, json=spec if method == "POST" else None
        )
        assert response.status_code == 421, path
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["type"].endswith("/misdirected-request")
        assert "SECATEUR_ALLOWED_HOSTS" in problem["detail"]
        assert problem["request_id"] == response.headers["x-request-id"]
    stream = {"host": "evil.example", "accept": "text/event-stream"}
    assert client.get("/jobs/019ab8e0-6a1c-7c5e-9d3f-2b6f0c9d4e11/events", headers=stream).status_code == 421


def test_there_are_no_websockets(make_settings: MakeSettings) -> None:
    from starlette.websockets import WebSocketDisconnect

    client = TestClient(create_app(make_settings()), base_url="http://localhost")
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/jobs"):
        pass
