"""A number that is too long is told by its place, and nothing else is read otherwise than by `json`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.contract.json_text import MAX_DIGITS, LongNumber, fault_of, load_json

LONG = "7" * (MAX_DIGITS + 1)


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (LONG, ""),
        (f"-{LONG}", ""),
        (f'{{"a": [1, {{"b/~c": {LONG}}}], "d": {LONG}}}', "/a/1/b~1~0c"),
        (f"[[], [1.5, 2], {LONG}]", "/2"),
    ],
)
def test_the_first_long_number_is_named(text: str, pointer: str) -> None:
    with pytest.raises(LongNumber) as caught:
        load_json(text)
    assert caught.value.pointer == pointer
    assert caught.value.detail == f"has a number of {MAX_DIGITS + 1:,} digits, and at most {MAX_DIGITS:,} are read"
    assert caught.value.value.strip("-").startswith("777")


@pytest.mark.parametrize(("text", "fault"), [
    ("", "a value is missing, or is none of JSON's, at character 1"),
    ("{'a': 1}", 'a key in double quotes (") is missing, at character 2'),
    ('{"a": 1 "b": 2}', "a comma or a closing bracket is missing, at character 9"),
    ('{"a" 1}', "the colon after a key is missing, at character 6"),
    ('{\n  "a": "b', "a text begins that has no end, at line 2, column 8"),
    ('["a\nb"]', "a text has a line break or another control character in it, at character 4"),
    ('["\\d"]', "a text has a backslash before what JSON does not escape, at character 3"),
    ('["\\u12"]', "a text has a backslash before what JSON does not escape, at character 4"),
    ("{} {}", "more follows after its end, at character 4"),
    ("\ufeff{}", "a byte order mark stands before it, at character 1"),
    (b'["\xff"]', "byte 2 begins no character of UTF-8"),
    ("[" * 200_000, "it is nested too deeply"),
])  # fmt: skip
def test_a_fault_is_told_in_words_of_our_own(text: str | bytes, fault: str) -> None:
    with pytest.raises((ValueError, RecursionError)) as caught:
        load_json(text)
    assert fault_of(caught.value) == fault


def test_the_longest_number_that_is_read() -> None:
    assert load_json(f"[-{LONG[1:]}]") == [-int(LONG[1:])]
    assert load_json(f'"{LONG}"') == LONG


def test_a_long_number_in_what_is_no_json() -> None:
    with pytest.raises(json.JSONDecodeError):
        load_json(f"[1, {LONG}")


def test_the_hook_is_called_with_what_was_read() -> None:
    seen: list[Any] = []

    def hook(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen.append(pairs)
        return dict(pairs)

    load_json('{"a": {"b": 1}}', pairs=hook)
    assert seen == [[("b", 1)], [("a", {"b": 1})]]


@given(st.recursive(st.none() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=9))
def test_it_reads_as_json_does(value: Any) -> None:
    assert load_json(json.dumps(value)) == value
