"""Where requests go, and coroutines that never wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from secateur.client.connection import DEFAULT_URL, Address, each, finish
from secateur.client.errors import ClientError


def test_an_address_is_given_or_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECATEUR_URL", "SECATEUR_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert Address.of(None, None, 5) == Address(DEFAULT_URL, None, 5)
    monkeypatch.setenv("SECATEUR_URL", "https://a.example/")
    monkeypatch.setenv("SECATEUR_API_KEY", "k")
    assert Address.of(None, None, 5) == Address("https://a.example", "k", 5)
    assert Address.of("https://b.example/x/", "other", 5) == Address("https://b.example/x", "other", 5)


def test_a_key_that_no_header_takes_is_refused_and_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Address.of(None, " abc\n", 5).key == "abc"
    for key in ("a-sécret", "a-secret\nand more", "a-secret\x7f"):
        monkeypatch.setenv("SECATEUR_API_KEY", key)
        with pytest.raises(ClientError, match="has a character that no key has") as caught:
            Address.of(None, None, 5)
        assert key not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_no_proxy_stands_before_this_machine_itself(host: str) -> None:
    assert not Address(f"http://{host}:8000", None, 5).options()["trust_env"]
    assert Address("https://secateur.example", None, 5).options()["trust_env"]


def test_the_key_goes_into_a_header_and_nowhere_else() -> None:
    assert Address("https://a.example", "k", 5).options()["headers"] == {"authorization": "Bearer k"}
    assert Address("https://a.example", None, 5).options()["headers"] == {}


def test_a_coroutine_that_waits_is_refused() -> None:
    with pytest.raises(RuntimeError, match="without an event loop"):
        finish(asyncio.sleep(0))


def test_a_coroutine_that_does_not_wait_is_run_to_its_end() -> None:
    async def inner(number: int) -> int:
        return number + 1

    async def outer() -> int:
        return await inner(await inner(1))

    assert finish(outer()) == 3


def test_who_stops_early_closes_the_generator_and_errors_come_through() -> None:
    closed: list[int] = []

    async def numbers(most: int) -> AsyncGenerator[int]:
        try:
            for number in range(most):
                yield number
            raise LookupError("no more")
        finally:
            closed.append(most)

    few, all_of_them = each(numbers(5)), each(numbers(2))
    kept = numbers(9)  # a reference that keeps it from being collected
    assert next(few) == 0
    assert next(each(kept)) == 0
    assert closed == [9]
    with pytest.raises(LookupError, match="no more"):
        list(all_of_them)
    assert closed == [9, 2]
