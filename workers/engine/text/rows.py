"""Rows of a data set, wherever it lies: what they are known by, and how they are read.

A file or an upload of plain text has its lines as rows, for whoever takes those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from secateur.contract.datasets import DatasetFormat
from secateur.contract.options.texts import HubText, LocalText, UploadText
from workers.engine.text.sources import (
    find_text_file,
    hash_local,
    holds_rows,
    hub_revision,
    hub_rows,
    local_pieces,
    local_rows,
    slice_size,
    verify_local,
)
from workers.engine.text.text_ids import CHUNK_BYTES
from workers.engine.text.text_source import TextSource
from workers.engine.text.uploads import describe_upload, find_upload, rows_size, upload_pieces, upload_rows

RowsText = LocalText | HubText | UploadText


@dataclass(frozen=True)
class Rows:
    """Rows with their numbers, from 1 on, and what is said of them."""

    key: dict[str, Any]  # the content's
    read: Callable[[], Iterator[tuple[int, Any]]]
    description: str
    identity: str
    revision: str | None = None
    size: int = 0  # bytes, about; 0 where nobody knows
    verify: Callable[[], None] = lambda: None  # whether what was read is what the key says


def rows_of(text: RowsText, source: TextSource, *, lines: bool = False) -> Rows:
    """The rows of the data set that `text` names.

    Args:
        lines: whether the lines of a plain text are rows, `{"text": line}` each; otherwise a file on this machine is
            read as JSON, and an upload of plain text is one row.

    Raises:
        InvalidInput: it cannot be read.
        Unavailable: the hub does not answer.
    """
    if isinstance(text, HubText):
        revision = hub_revision(text)
        name = " ".join(part for part in (text.id, text.config, text.split) if part)
        return Rows(
            key={"hub": [text.id, text.config, text.split, revision]},
            read=lambda: enumerate(hub_rows(text, revision=revision), start=1),
            description=f"{name} at {revision[:12]}",
            identity=text.id,
            revision=revision,
        )
    if isinstance(text, UploadText):
        file = find_upload(text, source.uploads)
        plain = lines and file.format is DatasetFormat.TEXT
        return Rows(
            key={"upload": file.sha256, "format": file.format, "slice": [text.start, text.stop]},
            read=lambda: _lines(upload_pieces(text, file, most=CHUNK_BYTES)) if plain else upload_rows(text, file),
            description=describe_upload(text, file),
            identity=file.sha256,
            size=rows_size(text, file),
        )
    roots = source.data_roots
    path = find_text_file(text, roots)
    plain = lines and not holds_rows(path)
    sha256 = hash_local(text, roots, rows=not plain)
    return Rows(
        key={"local": sha256},
        read=lambda: _lines(local_pieces(text, roots, most=CHUNK_BYTES)) if plain else local_rows(text, roots),
        verify=partial(verify_local, text, roots, rows=not plain, sha256=sha256),
        description=f"{text.path}, {text.start:g} to {text.stop:g}",
        identity=text.path,
        size=slice_size(path, text, rows=not plain),
    )


def _lines(pieces: Iterator[str]) -> Iterator[tuple[int, Any]]:
    """Lines of a plain text that has been cut at their ends."""
    lines = (line for piece in pieces for line in piece.splitlines())
    return ((number, {"text": line}) for number, line in enumerate(lines, start=1))
