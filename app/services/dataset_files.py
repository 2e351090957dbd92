"""Looking through a file before it becomes a data set: every row of it, and the first bad one is named.

The file is read from disk a line or a batch at a time, so memory stays flat. Lines are counted from 1 as an editor
counts them, blank ones included; rows of a Parquet file likewise.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.contract.datasets import (
    EXPECTED,
    DatasetFormat,
    DatasetKind,
    RowError,
    kind_of,
    row_error,
)
from secateur.contract.errors import FieldError, InvalidInput, PayloadTooLarge
from secateur.contract.shown import shown
from secateur.foreign_files.json_rows import BadRow, json_rows, unit_of

POINTER = "/file"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Looked:
    """What was found in a file without fault."""

    kind: DatasetKind
    rows: int


def look_through(path: Path, format: DatasetFormat, *, most_bytes: int) -> Looked:
    """Check every row of the file.

    Args:
        most_bytes: how much text a compressed file may hold.

    Raises:
        InvalidInput: it is empty, or names the first line or row that cannot be used.
        PayloadTooLarge: of a Parquet file, the text in it.
    """
    if path.stat().st_size == 0:
        raise _bad("the file is empty", None, "a file with text")
    match format:
        case DatasetFormat.TEXT:
            return Looked(DatasetKind.TEXT, _lines_of_text(path))
        case DatasetFormat.JSONL:
            with path.open("rb") as file:
                unit = unit_of(file)
            return _check_rows(_json_rows(path), unit)
        case DatasetFormat.PARQUET:
            return _check_rows(table_rows(path, most_bytes), "row")


def _check_rows(rows: Iterator[tuple[int, Any]], unit: str) -> Looked:
    kind: DatasetKind | None = None
    count = 0
    for number, row in rows:
        error = row_error(row, kind)
        if error is not None:
            raise _bad_row(error, number, unit)
        kind = kind or kind_of(row)
        count += 1
    if kind is None:
        raise _bad(f"the file has no {unit} with data", None, f"at least one {unit} with " + EXPECTED)
    return Looked(kind, count)


def _json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        try:
            yield from json_rows(file)
        except BadRow as error:
            raise _bad(str(error), shown(error.value), error.expected, error.number) from error


def table_rows(path: Path, most_bytes: int) -> Iterator[tuple[int, Any]]:
    """The rows of a Parquet file with their numbers. Raises InvalidInput, PayloadTooLarge."""
    from app.services.parquet_rows import BadTable, TooMuchText, parquet_rows  # heavy, and for this format alone

    try:
        yield from parquet_rows(path, most_bytes=most_bytes)
    except BadTable as error:
        raise _bad(str(error), None, error.expected, error.row) from error
    except TooMuchText as error:
        raise PayloadTooLarge(
            f"the text in the file has more than {most_bytes:,} bytes when it is unpacked; the limit "
            "(SECATEUR_MAX_DATASET_BYTES) holds for it too"
        ) from error


def _lines_of_text(path: Path) -> int:
    """How many lines a plain text has."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines, at_start, empty = 0, True, True
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            nul = chunk.find(b"\0")
            if nul >= 0:
                number = lines + 1 + chunk.count(b"\n", 0, nul)
                around = chunk[max(0, nul - 100) : nul + 100].decode("utf-8", "replace")
                raise _bad(f"line {number} has a NUL byte", shown(around), "text without NUL bytes", number)
            try:
                text = decoder.decode(chunk)
            except UnicodeDecodeError as error:
                whole = error.object  # with the bytes that the decoder had kept
                number = lines + 1 + whole.count(b"\n", 0, error.start)
                raise _not_utf8(number, error.start, whole) from error
            empty = empty and not text.strip().strip("\ufeff")
            lines += chunk.count(b"\n")
            at_start = chunk.endswith(b"\n")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _not_utf8(lines + 1, 0, b"") from error
    if empty:
        raise _bad("the file holds nothing but white space", None, "a file with text")
    return lines if at_start else lines + 1


def _not_utf8(number: int, at: int, around: bytes) -> InvalidInput:
    """The error of byte `at` of `around`."""
    what = f"byte 0x{around[at]:02x} begins no character" if at < len(around) else "it ends within a character"
    value = shown(around[max(0, at - 100) : at + 100].decode("utf-8", "replace"))
    return _bad(f"line {number} is not UTF-8: {what}", value, "text in UTF-8", number)


def _bad_row(error: RowError, number: int, unit: str) -> InvalidInput:
    detail = f"{unit} {number} {error.detail}"
    field = FieldError(POINTER + error.pointer, detail, shown(error.value), error.expected, line=number)
    return InvalidInput(detail, errors=[field])


def _bad(detail: str, value: Any, expected: str, line: int | None = None) -> InvalidInput:
    return InvalidInput(detail, errors=[FieldError(POINTER, detail, value, expected, line=line)])
