"""Uploaded data sets, which the worker has put on this machine: a slice of their text, or of their rows.

Each was checked row by row when it was uploaded, and its bytes are named by their sha256, so nothing is checked here
again. A slice of a plain text or of JSON lines is taken as of a local file (`texts.py`), one of a Parquet file by rows;
slices that touch are disjoint and together are the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from secateur.contract.datasets import FIELDS, DatasetFormat, DatasetKind
from secateur.contract.errors import InvalidInput, StageFailed
from secateur.contract.options.texts import UploadText
from secateur.contract.protocol import UploadedFile
from secateur.foreign_files.json_rows import BadRow, json_rows
from workers.engine.text.sources import plain_pieces, row_bytes, slice_size

_BATCH = 256  # rows of a Parquet file in memory at a time


def find_upload(text: UploadText, uploads: Mapping[UUID, UploadedFile]) -> UploadedFile:
    """The file of the data set that `text` names.

    Raises:
        InvalidInput: the stage was not given it, as where one is run by hand.
    """
    found = uploads.get(text.id)
    if found is None or not found.path.is_file():
        raise InvalidInput.field(
            "text/id",
            f"The data set {text.id} is not on this machine.",
            value=str(text.id),
            expected="a data set that the runtime's `uploads` has a file of",
        )
    return found


def describe_upload(text: UploadText, file: UploadedFile) -> str:
    """What a report says of the slice."""
    return f"{file.name}, {text.start:g} to {text.stop:g}"


def upload_pieces(text: UploadText, file: UploadedFile, *, most: int, enough: int | None = None) -> Iterator[str]:
    """The slice of a plain text, in pieces as of a local one (`texts.plain_pieces`)."""
    try:
        yield from plain_pieces(file.path, text, most=most, enough=enough)
    except UnicodeDecodeError as error:
        raise _changed(file) from error


def upload_documents(text: UploadText, file: UploadedFile) -> Iterator[str]:
    """The texts of the rows of the slice, one after the other.

    Raises:
        InvalidInput: the rows are of another kind.
    """
    if file.kind is not DatasetKind.TEXT:
        raise InvalidInput.field(
            "text/id",
            f"The data set {file.name} holds rows of the kind {file.kind.value}.",
            value=str(text.id),
            expected="a data set of plain text",
        )
    return (row["text"] for _, row in upload_rows(text, file))


def rows_size(text: UploadText, file: UploadedFile) -> int:
    """Bytes of the rows of the slice, about: of a Parquet file as they are before they are packed."""
    if file.format is not DatasetFormat.PARQUET:
        return slice_size(file.path, text, rows=file.format is DatasetFormat.JSONL)
    from pyarrow import parquet

    return int((text.stop - text.start) * unpacked_size(parquet.read_metadata(file.path)))


def unpacked_size(metadata: Any) -> int:
    """Bytes of all columns of a Parquet file, about, as its metadata tell."""
    return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))


def upload_rows(text: UploadText, file: UploadedFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of the slice, as objects with their numbers in the file; a plain text has one, with the whole."""
    match file.format:
        case DatasetFormat.JSONL:
            return _json_rows(text, file)
        case DatasetFormat.PARQUET:
            return _parquet_rows(text, file)
        case DatasetFormat.TEXT:
            pieces = upload_pieces(text, file, most=file.path.stat().st_size)
            return iter([(1, {"text": "".join(pieces)})])


def _json_rows(text: UploadText, file: UploadedFile) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.path.open("rb") as lines:
        try:
            yield from json_rows(lines, *row_bytes(lines, text))
        except BadRow as error:
            raise _changed(file) from error


def _parquet_rows(text: UploadText, file: UploadedFile) -> Iterator[tuple[int, dict[str, Any]]]:
    from pyarrow import ArrowException, parquet

    first, last = int(text.start * file.rows), int(text.stop * file.rows) if text.stop < 1 else file.rows
    at = 0
    try:
        with parquet.ParquetFile(file.path, memory_map=True) as table:
            columns = [name for name in FIELDS[file.kind] if name in table.schema_arrow.names]
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                if at + rows <= first or at >= last:
                    at += rows
                    continue
                for batch in table.iter_batches(_BATCH, row_groups=[group], columns=columns, use_threads=False):
                    begin, end = max(first - at, 0), min(last - at, len(batch))
                    if begin < end:
                        yield from enumerate(batch.slice(begin, end - begin).to_pylist(), start=at + begin + 1)
                    at += len(batch)
    except (ArrowException, OSError) as error:
        raise _changed(file) from error


def _changed(file: UploadedFile) -> StageFailed:
    return StageFailed(f"The file of the data set {file.name} on this machine is not what was uploaded.")
