"""What is wrong with a foreign JSON object is told in words that name its place."""

from __future__ import annotations

import pytest

from secateur.contract.errors import BadCheckpoint
from secateur.foreign_files.json_objects import load_json_object

DIGITS = b"1" * 100_000
TOO_LONG = "it has a number of 100,000 digits, and at most 4,300 are read, at"


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (b'{"hidden_size": ' + DIGITS + b"}", f"{TOO_LONG} /hidden_size."),
        (b'{"w": {"shape": [1, ' + DIGITS + b"]}}", f"{TOO_LONG} /w/shape/1."),
        (b'{"a": 1, "a": 2}', "it has the key 'a' twice."),
        (b"{" + DIGITS, 'it is not valid JSON: a key in double quotes (") is missing, at character 2.'),
        (b"[]", "it is not a JSON object."),
        (b'{"a": "\xff"}', "it is not valid JSON: byte 7 begins no character of UTF-8."),
        (b'{"\\ud800": 1}', "it is not valid JSON: a text has half of a surrogate pair."),
        (b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}", "it has more than 64 objects and lists within each other."),
    ],
)
def test_the_fault_is_told(raw: bytes, detail: str) -> None:
    with pytest.raises(BadCheckpoint) as caught:
        load_json_object(raw, "it")
    assert caught.value.detail == detail
