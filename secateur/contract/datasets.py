"""Uploaded data sets: in what formats they come, what a row may hold, and what is wrong with one that cannot be used.

A row is an object: a line of a JSONL file, an item of a JSON array, or a row of a Parquet file. Its kind is one of
those that a recovery's `format` names, and is seen in its fields: `messages` makes a chat, `instruction` and `output`
an exercise in Alpaca's three fields, `text` a document. All rows of a data set are of one kind. Fields beyond those
are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from secateur.contract.shown import shortened
from secateur.contract.validation_errors import pointer_of

MAX_LINE_BYTES = 16 * 2**20  # of one JSON object; longer than any book


class DatasetFormat(StrEnum):
    """How a file is written."""

    JSONL = "jsonl"  # one JSON object a line, or one array of objects, UTF-8
    TEXT = "text"  # plain text, UTF-8
    PARQUET = "parquet"


class DatasetKind(StrEnum):
    """What rows hold; the values are those of a recovery's `format`."""

    TEXT = "text"
    ALPACA = "alpaca"
    CHAT = "chat"


# a file name's ending → the format
SUFFIXES: Mapping[str, DatasetFormat] = {
    ".jsonl": DatasetFormat.JSONL,
    ".ndjson": DatasetFormat.JSONL,
    ".json": DatasetFormat.JSONL,
    ".txt": DatasetFormat.TEXT,
    ".text": DatasetFormat.TEXT,
    ".md": DatasetFormat.TEXT,
    ".parquet": DatasetFormat.PARQUET,
}
# the fields that are read of each kind
FIELDS: Mapping[DatasetKind, tuple[str, ...]] = {
    DatasetKind.TEXT: ("text",),
    DatasetKind.ALPACA: ("instruction", "input", "output"),
    DatasetKind.CHAT: ("messages",),
}
SURROGATE = re.compile("[\ud800-\udfff]")
EXPECTED = "`text`, or `instruction`, `input` and `output`, or `messages`"


@dataclass(frozen=True)
class RowError:
    """What is wrong with a row, and where in it."""

    pointer: str  # JSON pointer into the row; "" for the row itself
    detail: str
    value: Any
    expected: str


def kind_of(names: Mapping[str, Any] | frozenset[str]) -> DatasetKind | None:
    """The kind of a row that has these fields."""
    if "messages" in names:
        return DatasetKind.CHAT
    if "instruction" in names and "output" in names:
        return DatasetKind.ALPACA
    return DatasetKind.TEXT if "text" in names else None


def row_error(row: Any, kind: DatasetKind | None) -> RowError | None:
    """The first thing that is wrong with `row`, or None.

    Args:
        kind: that of the rows before it; None for the first row.
    """
    if not isinstance(row, Mapping):
        return RowError("", "is not a JSON object", row, "a JSON object with " + EXPECTED)
    found = kind_of(row)
    if found is None:
        return RowError("", f"has no field that can be used ({_names(row)})", row, EXPECTED)
    if kind is not None and found is not kind and not set(_required(kind)) <= set(row):
        detail = f"is of the kind {found.value}, and those before it are of the kind {kind.value}"
        return RowError("", detail, row, f"one kind in a file: {' and '.join(f'`{name}`' for name in _required(kind))}")
    return next(_errors(row, kind or found), None)


def _required(kind: DatasetKind) -> tuple[str, ...]:
    return tuple(name for name in FIELDS[kind] if name != "input")


def _errors(row: Mapping[str, Any], kind: DatasetKind) -> Iterator[RowError]:
    match kind:
        case DatasetKind.TEXT:
            yield from _not_text(row["text"], "text")
        case DatasetKind.ALPACA:
            yield from _not_text(row["instruction"], "instruction")
            if row["instruction"] == "":
                yield RowError("/instruction", "has an empty `instruction`", "", "a string that is not empty")
            if row.get("input") is not None:
                yield from _not_text(row["input"], "input")
            yield from _not_text(row["output"], "output")
        case DatasetKind.CHAT:
            yield from _bad_messages(row["messages"])


def _bad_messages(messages: Any) -> Iterator[RowError]:
    if not isinstance(messages, list) or not messages:
        detail = "has `messages` that are no list, or an empty one"
        yield RowError("/messages", detail, messages, "a list of objects with the strings `role` and `content`")
        return
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            detail = f"has a message (number {number + 1}) that is no object"
            yield RowError(f"/messages/{number}", detail, message, "an object with the strings `role` and `content`")
            continue
        for name in ("role", "content"):
            yield from _not_text(message.get(name), "messages", number, name)


def _not_text(value: Any, *path: str | int) -> Iterator[RowError]:
    """An error where the value at `path` is no text that can be tokenised."""
    if isinstance(value, str) and "\0" not in value and (value.isascii() or not SURROGATE.search(value)):
        return
    name = f"`{path[-1]}`" if len(path) == 1 else f"`{path[-1]}` (of message {int(path[1]) + 1})"
    if not isinstance(value, str):
        yield RowError(pointer_of(path), f"has no string as {name}", value, "a string")
    elif "\0" in value:
        yield RowError(pointer_of(path), f"has a NUL character in {name}", value, "text without \\u0000")
    else:
        detail = f"has half of a surrogate pair in {name}, which is no character"
        yield RowError(pointer_of(path), detail, value, "text that can be written as UTF-8")


def _names(row: Mapping[str, Any]) -> str:
    names = [shortened(str(name), 40) for name in row]
    return f"it has {', '.join(names[:8])}{' …' if len(names) > 8 else ''}" if names else "it is empty"
