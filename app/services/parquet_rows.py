"""Rows of a Parquet file, with a running count of what its few bytes unfold to.

Compression, dictionaries and run lengths let some hundred bytes stand for gigabytes. So what the file says of its own
size is looked at before it is read, rows are decoded a few at a time, and what they hold is counted before it becomes
Python objects: a value that a dictionary repeats counts each time. What a single page may unfold to no count can see
beforehand; a caller that takes files from strangers reads them in a process with little memory (`dataset_check.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.compute as compute
from pyarrow import parquet

from secateur.contract.datasets import EXPECTED, FIELDS, MAX_LINE_BYTES, DatasetKind, kind_of
from secateur.contract.shown import first_line, shortened

BATCH = 64  # rows that are decoded at a time
MAX_LEVELS = 8  # of lists and structs in a column; a chat has two
_ELEMENT_BYTES = 8  # what a value counts beside its text: a table of empty strings is not for nothing


class BadTable(ValueError):
    """The file is no table that can be used."""

    def __init__(self, detail: str, expected: str, *, row: int | None = None) -> None:
        super().__init__(detail)
        self.expected, self.row = expected, row


class TooMuchText(ValueError):
    """More is in the file than may be."""


def parquet_rows(path: Path, *, most_bytes: int) -> Iterator[tuple[int, Any]]:
    """The rows with their numbers, from 1; of each the fields that its kind has.

    Args:
        most_bytes: of all that the columns unfold to.

    Raises:
        BadTable: it is no Parquet file, has no column that can be used, or a row is too long.
        TooMuchText: its columns unfold to more.
        MemoryError: one page of it does.
    """
    try:
        with parquet.ParquetFile(path, memory_map=True) as file:
            columns = _columns(file, most_bytes)
            number = size = 0
            for batch in file.iter_batches(batch_size=BATCH, columns=columns, use_threads=False):
                size += (held := _held(batch))
                if size > most_bytes:
                    raise TooMuchText
                # a few rows that hold much become objects one at a time
                pieces = [batch] if held <= MAX_LINE_BYTES else [batch.slice(at, 1) for at in range(len(batch))]
                for piece in pieces:
                    if _held(piece) > MAX_LINE_BYTES:
                        detail = f"row {number + 1} is longer than {MAX_LINE_BYTES:,} bytes"
                        raise BadTable(detail, f"rows of at most {MAX_LINE_BYTES:,} bytes", row=number + 1)
                    for row in piece.to_pylist():
                        number += 1
                        yield number, row
    except MemoryError as error:  # Arrow's is both
        raise MemoryError from error
    except (arrow.ArrowException, OSError, UnicodeDecodeError, RecursionError) as error:
        raise BadTable(f"the file cannot be read as Parquet: {first_line(error)}", "a whole Parquet file") from error


def unfolded_bytes(column: Any) -> int:
    """What the values of an Arrow array hold, dictionaries and lists written out.

    >>> unfolded_bytes(arrow.DictionaryArray.from_arrays(arrow.array([0, 0, 0]), arrow.array(["abcd"])))
    36
    """
    kind = column.type
    plain = _ELEMENT_BYTES * len(column)
    if arrow.types.is_dictionary(kind):
        return plain + int(compute.sum(compute.binary_length(column.dictionary).take(column.indices)).as_py() or 0)
    if _is_text(kind):
        return plain + int(compute.sum(compute.binary_length(column)).as_py() or 0)
    if _is_list(kind):
        return plain + unfolded_bytes(column.flatten())
    if arrow.types.is_struct(kind):
        return plain + sum(unfolded_bytes(field) for field in column.flatten())
    return plain


def _held(batch: Any) -> int:
    return sum(unfolded_bytes(column) for column in batch.columns)


def _columns(file: Any, most_bytes: int) -> list[str]:
    """The columns to read, once types and sizes that the file declares are such as can be read."""
    schema = file.schema_arrow
    names = frozenset(schema.names)
    kind = kind_of(names)
    if kind is None:
        detail = f"the table has no column that can be used (it has {', '.join(sorted(names)[:8]) or 'none'})"
        raise BadTable(detail, "columns " + EXPECTED)
    columns = [name for name in FIELDS[kind] if name in names]
    for name in columns:
        if schema.names.count(name) > 1:
            raise BadTable(f"the table has two columns `{name}`", "columns of different names")
        _check_type(name, schema.field(name).type, kind)
    metadata = file.metadata
    declared = 0
    for group in range(metadata.num_row_groups):
        found = metadata.row_group(group)
        for at in range(found.num_columns):
            column = found.column(at)
            if column.path_in_schema.split(".")[0] in columns:
                declared += max(0, column.total_uncompressed_size)
    if declared > most_bytes:
        raise TooMuchText
    return columns


def _check_type(name: str, kind: Any, wanted: DatasetKind) -> None:
    """Refuse a column whose values could not even be counted; what else is wrong is told by row."""
    if not _can_be_counted(kind, levels=MAX_LEVELS):
        expected = "a list of structs of strings" if wanted is DatasetKind.CHAT else "strings"
        raise BadTable(f"the column `{name}` holds {shortened(str(kind))}", expected)


def _can_be_counted(kind: Any, *, levels: int) -> bool:
    if levels == 0:
        return False
    if arrow.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    if _is_list(kind):
        return _can_be_counted(kind.value_type, levels=levels - 1)
    if arrow.types.is_struct(kind):
        return all(_can_be_counted(field.type, levels=levels - 1) for field in kind)
    return bool(_is_text(kind) or arrow.types.is_primitive(kind) or arrow.types.is_null(kind))


def _is_text(kind: Any) -> bool:
    types = arrow.types
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    )


def _is_list(kind: Any) -> bool:
    return bool(arrow.types.is_list(kind) or arrow.types.is_large_list(kind))
