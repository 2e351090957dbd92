"""The pairs in the head of a GGUF file are read as far as they reach, whatever its counts claim."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest

from app.services.gguf_keys import keys_of_head, read_keys

STRING, ARRAY, WHOLE = 8, 9, 4


def text(words: str) -> bytes:
    return struct.pack("<Q", len(words)) + words.encode()


def head(*pairs: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs)


def number(key: str, value: int) -> bytes:
    return text(key) + struct.pack("<II", WHOLE, value)


def array(key: str, element: int, count: int, content: bytes = b"") -> bytes:
    return text(key) + struct.pack("<IIQ", ARRAY, element, count) + content


def test_what_stands_behind_an_array_is_found() -> None:
    numbers = array("b", WHOLE, 3, bytes(12))
    strings = array("c", STRING, 2, text("x") + text("y"))
    assert keys_of_head(head(number("a", 1), numbers, strings, number("d", 4))) == {"a": 1, "d": 4}


@pytest.mark.parametrize("count", [1 << 40, 1 << 61, (1 << 64) - 1])
@pytest.mark.parametrize("element", [WHOLE, STRING, 7, 12])
def test_an_array_of_more_entries_than_any_file_has_ends_the_reading(element: int, count: int) -> None:
    broken = head(number("a", 1), array("b", element, count), number("c", 3))
    assert keys_of_head(broken) == {"a": 1}
    with pytest.raises((EOFError, struct.error)):
        read_keys(BytesIO(broken))
