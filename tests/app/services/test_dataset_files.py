"""Every row of a file is looked at, and the first that cannot be used is named with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from app.services.dataset_files import Looked, look_through
from secateur.contract.datasets import MAX_LINE_BYTES, DatasetFormat, DatasetKind, row_error
from secateur.contract.errors import FieldError, InvalidInput, PayloadTooLarge

JSONL, TEXT, PARQUET = DatasetFormat.JSONL, DatasetFormat.TEXT, DatasetFormat.PARQUET
Look = Callable[..., Looked]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    def check(content: bytes, format: DatasetFormat = JSONL, most_bytes: int = 1 << 30) -> Looked:
        path = tmp_path / "file"
        path.write_bytes(content)
        return look_through(path, format, most_bytes=most_bytes)

    return check


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def table(tmp_path: Path, **columns: Any) -> bytes:
    parquet.write_table(arrow.table(columns), tmp_path / "table.parquet", row_group_size=3)
    return (tmp_path / "table.parquet").read_bytes()


def refused(look: Look, content: bytes, format: DatasetFormat = JSONL) -> FieldError:
    with pytest.raises(InvalidInput) as caught:
        look(content, format)
    (field,) = caught.value.errors
    assert caught.value.detail == field.detail
    return field


MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.mark.parametrize(("rows", "kind"), [
    ([{"text": "a"}, {"text": ""}, {"text": "b", "source": "web"}], DatasetKind.TEXT),
    ([{"instruction": "Add.", "input": "1", "output": "2"}, {"instruction": "Greet.", "output": "Hi", "input": None}],
     DatasetKind.ALPACA),
    ([{"instruction": "Add.", "output": "2", "text": "whole"}], DatasetKind.ALPACA),
    ([{"messages": MESSAGES}, {"messages": MESSAGES, "text": "x"}], DatasetKind.CHAT),
])  # fmt: skip
def test_the_kind_is_seen_in_the_fields(look: Look, rows: list[Any], kind: DatasetKind) -> None:
    assert look(lines(*rows)) == Looked(kind, len(rows))
    assert look(b"\xef\xbb\xbf" + lines(*rows).replace(b"\n", b"\r\n\r\n")) == Looked(kind, len(rows))
    assert look(lines(*rows).rstrip()) == Looked(kind, len(rows))


@pytest.mark.parametrize(("content", "line", "says", "pointer", "value"), [
    (b'{"text": "a"}\n\n{"text": 7}\n', 3, "has no string as `text`", "/file/text", 7),
    (b'{"text": "a"}\n{"text": "b"\n', 2, "is not JSON: a comma or a closing", "/file", '{"text": "b"'),
    (b'{"text": "a"}\n[1, 2]\n', 2, "is not a JSON object", "/file", [1, 2]),
    (b'{"text": "a"}\n"b"\n', 2, "is not a JSON object", "/file", "b"),
    (b'{"texts": "a"}\n', 1, "has no field that can be used (it has texts)", "/file", {"texts": "a"}),
    (b'{}\n', 1, "has no field that can be used (it is empty)", "/file", {}),
    (b'{"text": "a"}\n{"messages": []}\n', 2, "is of the kind chat, and those before it are of the kind text", "/file",
     {"messages": []}),
    (b'{"instruction": "", "output": "b"}\n', 1, "empty `instruction`", "/file/instruction", ""),
    (b'{"instruction": "a", "output": null}\n', 1, "no string as `output`", "/file/output", None),
    (b'{"instruction": "a", "input": 1, "output": "b"}\n', 1, "no string as `input`", "/file/input", 1),
    (b'{"messages": "a"}\n', 1, "`messages` that are no list", "/file/messages", "a"),
    (b'{"messages": ["a"]}\n', 1, "a message (number 1) that is no object", "/file/messages/0", "a"),
    (b'{"messages": [{"role": "user", "content": "a"}, {"role": "user"}]}\n', 1,
     "no string as `content` (of message 2)", "/file/messages/1/content", None),
    (b'{"text": "a\\u0000b"}\n', 1, "a NUL character in `text`", "/file/text", "a\0b"),
    (b'{"text": "a\\ud800b"}\n', 1, "half of a surrogate pair in `text`", "/file/text", "a?b"),
    (b'{"text": "a"}\n{"text": "a\0b"}\n', 2, "has a NUL byte, at byte 11", "/file", '{"text": "a\0b"}\n'),
    (b'{"text": "a"}\n{"text": "\xff"}\n', 2, "is not UTF-8: byte 0xff begins no character", "/file",
     '{"text": "\ufffd"}\n'),
    (b'{"text": ' + b"[" * 100_000, 1, "is nested too deeply", "/file", '{"text": ' + "[" * 190 + "…"),
    (b'{"text": "a"}\n{"text": "b", "more": ' + b"[" * 65 + b"]" * 65 + b"}", 2, "is nested too deeply", "/file", None),
    (b'{"text": "a", "n": [0, ' + b"1" * 5000 + b"]}", 1,
     "has a number of 5,000 digits, and at most 4,300 are read, at /n/1", "/file", "1" * 99 + "…"),
])  # fmt: skip
def test_the_first_bad_line_is_named(
    look: Look, content: bytes, line: int, says: str, pointer: str, value: Any
) -> None:
    field = refused(look, content)
    assert field.detail.startswith(f"line {line} ")
    assert says in field.detail
    assert (field.pointer, field.line) == (pointer, line)
    assert field.expected
    if value is not None:
        assert field.value == value


def test_a_line_without_end_is_not_read_whole(look: Look) -> None:
    assert "is longer than" in refused(look, b'{"text": "' + b"a" * MAX_LINE_BYTES + b'"}').detail


@pytest.mark.parametrize("format", list(DatasetFormat))
def test_an_empty_file(look: Look, format: DatasetFormat) -> None:
    assert refused(look, b"", format).detail == "the file is empty"


@pytest.mark.parametrize(("content", "format", "says"), [
    (b"\n \n\n", JSONL, "no line with data"),
    (b" \n\t\n", TEXT, "nothing but white space"),
    (b"\xef\xbb\xbf\n", TEXT, "nothing but white space"),
])  # fmt: skip
def test_a_file_with_nothing_in_it(look: Look, content: bytes, format: DatasetFormat, says: str) -> None:
    assert says in refused(look, content, format).detail


@pytest.mark.parametrize(
    ("content", "count"), [(b"a", 1), (b"a\nb\n", 2), (b"a\nb", 2), ("ä\n".encode() * 700_000, 700_000)]
)
def test_lines_of_a_text(look: Look, content: bytes, count: int) -> None:
    assert look(content, TEXT) == Looked(DatasetKind.TEXT, count)


@pytest.mark.parametrize(("content", "line", "says"), [
    (b"one\ntwo \xff three\n", 2, "byte 0xff begins no character"),
    (b"one\ntwo\n" + "ä".encode()[:1], 3, "ends within a character"),
    (b"x\n" * (1 << 19) + b"\xfe\n", (1 << 19) + 1, "byte 0xfe begins no character"),
    (b"one\ntw\0o\n", 2, "NUL byte"),
])  # fmt: skip
def test_a_text_that_is_none(look: Look, content: bytes, line: int, says: str) -> None:
    field = refused(look, content, TEXT)
    assert says in field.detail
    assert field.line == line


def test_parquet_has_the_same_columns(look: Look, tmp_path: Path) -> None:
    words = [f"row {number}" for number in range(200)]
    assert look(table(tmp_path, text=words, other=words), PARQUET) == Looked(DatasetKind.TEXT, 200)
    assert look(table(tmp_path, instruction=words, output=words), PARQUET) == Looked(DatasetKind.ALPACA, 200)
    assert look(table(tmp_path, messages=[MESSAGES] * 5), PARQUET) == Looked(DatasetKind.CHAT, 5)


def test_the_first_bad_row_of_a_table_is_named(look: Look, tmp_path: Path) -> None:
    field = refused(look, table(tmp_path, text=["a"] * 70 + [None, "b"]), PARQUET)
    assert (field.detail, field.line, field.pointer) == ("row 71 has no string as `text`", 71, "/file/text")
    assert "no column that can be used (it has words)" in refused(look, table(tmp_path, words=["a"]), PARQUET).detail
    assert "no string as `text`" in refused(look, table(tmp_path, text=[1, 2]), PARQUET).detail
    empty = arrow.array([], arrow.string())
    assert "no row with data" in refused(look, table(tmp_path, text=empty), PARQUET).detail


def test_a_broken_table_is_told_in_one_line(look: Look, tmp_path: Path) -> None:
    whole = table(tmp_path, text=["a", "b"])
    for content in (b"PAR1", b"nonsense" * 100, whole[:-20], whole[:10] + b"\xff" * 30 + whole[40:]):
        detail = refused(look, content, PARQUET).detail
        assert "cannot be read as Parquet" in detail
        assert "\n" not in detail


def test_a_table_that_unpacks_to_more_than_the_limit(look: Look, tmp_path: Path) -> None:
    content = table(tmp_path, text=["a" * 10_000] * 300)
    assert len(content) < 100_000
    with pytest.raises(PayloadTooLarge, match="SECATEUR_MAX_DATASET_BYTES"):
        look(content, PARQUET, most_bytes=100_000)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_named = st.sampled_from(["text", "instruction", "input", "output", "messages", "role", "content"])
_rows = _json | st.dictionaries(_named, _json | st.lists(st.dictionaries(_named, _json, max_size=2), max_size=2))


@settings(deadline=None, max_examples=200, derandomize=True, database=None)
@given(row=_rows, kind=st.none() | st.sampled_from(list(DatasetKind)))
def test_any_json_is_judged(row: Any, kind: DatasetKind | None) -> None:
    """Never an exception: a row is good, or its error says where."""
    error = row_error(row, kind)
    assert error is None or (error.detail and error.expected and (error.pointer == "" or error.pointer[0] == "/"))
