"""Rows of JSON, by lines or out of one array, and the first that cannot be read."""

from __future__ import annotations

import json
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.contract.datasets import MAX_LINE_BYTES
from secateur.foreign_files import json_rows as module
from secateur.foreign_files.json_rows import MAX_DEPTH, BadRow, json_rows, unit_of

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(['"', "\\", '\\"', "[{", "},]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 3)


@pytest.mark.usefixtures("_small_chunks")
@settings(deadline=None, max_examples=150, derandomize=True, database=None)
@given(rows=st.lists(_json, max_size=5), indent=st.sampled_from([None, 1]), ascii=st.booleans(), mark=st.booleans())
def test_an_array_is_read_item_by_item(rows: list[Any], indent: int | None, ascii: bool, mark: bool) -> None:
    content = b"\xef\xbb\xbf" * mark + b" \n" + json.dumps(rows, indent=indent, ensure_ascii=ascii).encode() + b"\r\n "
    file = BytesIO(content)
    assert unit_of(file) == "item"
    assert list(json_rows(file)) == list(enumerate(rows, start=1))
    edges = [0, len(content) // 3, len(content) // 2, len(content)]
    parts = [row for a, b in pairwise(edges) for row in json_rows(file, a, b)]
    assert parts == list(enumerate(rows, start=1))  # slices that touch are disjoint and make the whole


def test_lines_keep_their_numbers_in_the_file_whatever_the_slice() -> None:
    content = b'{"a": 1}\n\n{"a": 2}\r\n{"a": 3}'
    file = BytesIO(content)
    assert unit_of(file) == "line"
    assert list(json_rows(file)) == [(1, {"a": 1}), (3, {"a": 2}), (4, {"a": 3})]
    assert list(json_rows(file, 9, 20)) == [(3, {"a": 2})]
    assert list(json_rows(BytesIO(b"\xef\xbb\xbf" + content), 0, 11)) == [(1, {"a": 1})]


@pytest.mark.parametrize(("content", "number", "says"), [
    (b'[{"a": 1}, {"a": 2}', 2, "its closing bracket is missing"),
    (b'[{"a": 1},, {"a": 2}]', 2, "is not JSON"),
    (b'[{"a": 1},]', 2, "is not JSON"),
    (b'[{"a": 1}] {"a": 2}', 1, "followed by more"),
    (b"[{'a': 1}]", 1, "is not JSON"),
    (b'[{"a": "\xff"}]', 1, "is not UTF-8: byte 0xff"),
    (b'[{"a": "\0"}]', 1, "NUL byte"),
    (b"[1, " + b"[" * 100_000, 2, "nested too deeply"),
    (b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", 1, "nested too deeply"),
    (b'{"a": ' + b"[" * 100_000, 1, "nested too deeply"),
    (b"[1" + b" " * MAX_LINE_BYTES + b"]", 1, "longer than"),
    (b'{"a": 1}\n{"a": "' + b"x" * MAX_LINE_BYTES, 2, "longer than"),
    ('{"a": 1}\n'.encode("utf-16"), 1, "it looks like UTF-16"),
    (b'{"a": ' + b"1" * 5000 + b"}", 1, "has a number of 5,000 digits"),
    (b'{"a": 1}\r{"a": 2}', 1, "is not JSON: more follows after its end, at character 10"),
])  # fmt: skip
def test_the_first_row_that_cannot_be_read(content: bytes, number: int, says: str) -> None:
    with pytest.raises(BadRow) as caught:
        list(json_rows(BytesIO(content)))
    assert caught.value.number == number
    assert says in caught.value.detail
    assert caught.value.expected
    assert len(caught.value.value) <= 1000


def test_as_deep_as_may_be() -> None:
    row = {"a": json.loads("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))}
    assert list(json_rows(BytesIO(json.dumps(row).encode()))) == [(1, row)]
    assert list(json_rows(BytesIO(json.dumps([row]).encode()))) == [(1, row)]
