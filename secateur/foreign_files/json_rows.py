"""Rows of a file of JSON: an object a line, or the items of one array; which of the two, its first character tells.

The file is read a piece at a time and a row is parsed alone, so memory depends on the longest row and not on the file.
A row may have at most so many bytes and may be nested only so deeply: parsed JSON takes many times its length, and a
nest as deep as an interpreter's stack ends in the error of whoever looks at it next.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from secateur.contract.datasets import MAX_LINE_BYTES
from secateur.contract.json_text import EXPECTED, LongNumber, fault_of, load_json

MAX_DEPTH = 64  # of lists and objects within a row; a chat has three
_CHUNK = 1 << 16
_BOM = b"\xef\xbb\xbf"
_STRUCTURE = re.compile(rb'["\\{}\[\],]')
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class BadRow(ValueError):
    """A row that cannot be read; says which, what is wrong, and what is expected."""

    def __init__(self, number: int, detail: str, value: str, expected: str, *, unit: str) -> None:
        super().__init__(f"{unit} {number} {detail}")
        self.number, self.detail, self.value, self.expected, self.unit = number, detail, value, expected, unit


def is_array(file: BinaryIO) -> bool:
    """Whether the file's first character begins a JSON array."""
    return _first_place(file) is not None


def unit_of(file: BinaryIO) -> str:
    """What a row of this file is called when it is named by number."""
    return "item" if is_array(file) else "line"


def json_rows(file: BinaryIO, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Any]]:
    """The rows that begin in the bytes from `start` to `stop`, each with its number in the file, from 1.

    Lines are counted as an editor does, blank ones included. In a file of lines `start` must be the start of one.

    Raises:
        BadRow: a row is not JSON, not UTF-8, too long or too deep, or the array does not end.
    """
    stop = file.seek(0, os.SEEK_END) if stop is None else stop
    first = _first_place(file)
    if first is None:
        yield from _lines(file, start, stop)
        return
    for number, (place, raw) in enumerate(_items(file, first + 1), start=1):
        if place >= stop:
            return
        if place >= start:
            yield number, _parsed(raw, number, "item")


def _first_place(file: BinaryIO) -> int | None:
    """Where the array begins, if the file holds one."""
    file.seek(0)
    at = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
    file.seek(at)
    while chunk := file.read(_CHUNK):
        rest = chunk.lstrip(b" \t\r\n")
        if rest:
            return at + len(chunk) - len(rest) if rest[:1] == b"[" else None
        at += len(chunk)
    return None


def _lines(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[int, Any]]:
    number = _lines_before(file, start)
    file.seek(at := start)
    while at < stop and (line := file.readline(MAX_LINE_BYTES + 1)):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise _too_long(number, "line", line)
        begins, at = at, at + len(line)
        if begins == 0:
            line = line.removeprefix(_BOM)
        if line.strip():
            yield number, _parsed(line, number, "line")


def _lines_before(file: BinaryIO, place: int) -> int:
    file.seek(0)
    count = 0
    while place > 0 and (chunk := file.read(min(place, 1 << 20))):
        count += chunk.count(b"\n")
        place -= len(chunk)
    return count


def _items(file: BinaryIO, begin: int) -> Iterator[tuple[int, bytes]]:
    """Where each item of the array begins, and its bytes; whether they are JSON is not looked at."""
    file.seek(begin)
    number, depth, in_string, escaped = 1, 0, False, -1
    item, item_at, chunk_at = bytearray(), begin, begin
    while chunk := file.read(_CHUNK):
        taken = 0  # of the chunk
        for match in _STRUCTURE.finditer(chunk):
            place, what = match.start(), match.group()
            if in_string:
                if chunk_at + place == escaped:
                    continue
                if what == b"\\":
                    escaped = chunk_at + place + 1
                in_string = what != b'"'
            elif what == b'"':
                in_string = True
            elif what in b"{[":
                depth += 1
                if depth > MAX_DEPTH:
                    raise _too_deep(number, "item", bytes(item))
            elif depth == 0 and what in b",]":
                item += chunk[taken:place]
                if len(item) > MAX_LINE_BYTES:
                    raise _too_long(number, "item", bytes(item[:1000]))
                if item.strip() or what == b"," or number > 1:  # a comma stands between two items
                    yield item_at, bytes(item)
                if what == b"]":
                    _nothing_after(file, chunk[place + 1 :], number)
                    return
                number, taken = number + 1, place + 1
                item, item_at = bytearray(), chunk_at + taken
            elif what in b"}]":
                depth -= 1
        item += chunk[taken:]
        chunk_at += len(chunk)
        if len(item) > MAX_LINE_BYTES:
            raise _too_long(number, "item", bytes(item[:1000]))
    detail = "is the last of an array that does not end: its closing bracket is missing"
    raise BadRow(number, detail, _start_of(bytes(item)), "a whole JSON array, or one JSON object a line", unit="item")


def _nothing_after(file: BinaryIO, rest: bytes, number: int) -> None:
    while not rest.strip():
        rest = file.read(_CHUNK)
        if not rest:
            return
    detail = "is followed by more than the array's end"
    raise BadRow(number, detail, _start_of(rest), "one JSON array, or one JSON object a line", unit="item")


def _parsed(raw: bytes, number: int, unit: str) -> Any:
    expected = "one JSON object a line" if unit == "line" else "a JSON array of objects"
    if b"\0" in raw:
        detail = f"has a NUL byte, at byte {raw.index(0)}" + _wide(raw)
        raise BadRow(number, detail, _start_of(raw), "text without NUL bytes, in UTF-8", unit=unit)
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        detail = f"is not UTF-8: byte 0x{raw[error.start]:02x} begins no character" + _wide(raw)
        around = raw[max(0, error.start - 100) : error.start + 100]
        raise BadRow(number, detail, _start_of(around), "text in UTF-8", unit=unit) from error
    try:
        value = load_json(text)
    except LongNumber as error:
        raise BadRow(number, f"{error.detail}, at {error.pointer}", error.value, EXPECTED, unit=unit) from error
    except RecursionError as error:
        raise _too_deep(number, unit, raw) from error
    except ValueError as error:
        raise BadRow(number, f"is not JSON: {fault_of(error)}", _start_of(raw.strip()), expected, unit=unit) from error
    if _depth_exceeds(value):
        raise _too_deep(number, unit, raw)
    return value


def _wide(raw: bytes) -> str:
    return "; it looks like UTF-16" if raw.startswith(_UTF16) or raw[1:8:2].count(0) > 2 else ""


def _depth_exceeds(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        if not level:
            return False
        level = [
            item
            for holder in level
            if isinstance(holder, dict | list)
            for item in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(item, dict | list)
        ]
    return bool(level)


def _too_long(number: int, unit: str, raw: bytes) -> BadRow:
    detail = f"is longer than {MAX_LINE_BYTES:,} bytes"
    return BadRow(number, detail, _start_of(raw), f"rows of at most {MAX_LINE_BYTES:,} bytes", unit=unit)


def _too_deep(number: int, unit: str, raw: bytes) -> BadRow:
    return BadRow(number, "is nested too deeply", _start_of(raw), f"at most {MAX_DEPTH} levels", unit=unit)


def _start_of(raw: bytes) -> str:
    """As much as an error shows, and a little more, so that its cut is seen."""
    return raw[:1000].decode("utf-8", "replace")
