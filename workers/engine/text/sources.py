"""Where the words come from: a text file under the data roots, or a text column of a hub data set.

Uploaded data sets are read by `uploads.py`. A file whose name says that it holds JSON is read by rows, any other one as
plain text.

A slice of a file is taken by fractions of its bytes, moved on to the next start of a line. The same fraction always
gives the same place, so slices that touch (0 to 0.6, 0.6 to 1) are disjoint and together are the whole. Files are read
a piece at a time, and of a long text no more than is wanted.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from secateur.contract.datasets import SUFFIXES, DatasetFormat, DatasetKind, row_error
from secateur.contract.errors import InvalidInput, ServiceError, StageFailed, Unavailable
from secateur.contract.options.texts import HubText, LocalText, UploadText
from secateur.contract.shown import shown
from secateur.contract.texts import HEAD_BYTES, not_text
from secateur.foreign_files.json_rows import BadRow, is_array, json_rows
from secateur.foreign_files.roots import NotUnderRoots, find_under
from workers.engine.blame import is_of_the_machine, words_of
from workers.engine.hub_errors import causes, why_away
from workers.machine.hub_token import fetching

SPANS = 64  # places at which a long text is read where a part of it will do
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Which field the message of `datasets` is about, by how it begins.
_FIELDS = {"Bad split": "split", "BuilderCo": "config", "Config na": "config"}
_LINE_SEARCH_BYTES = 1 << 16  # a text without a line break for so long is cut between two characters
_HASHED_BYTES = 1 << 20  # at a time


def find_text_file(text: LocalText, roots: Sequence[Path]) -> Path:
    """The file that `text` names, with symlinks followed, which lies under one of `roots`.

    Raises:
        InvalidInput: there is no such file, or it lies elsewhere.
    """
    try:
        return find_under(text.path, roots, fits=Path.is_file)
    except NotUnderRoots as error:
        raise InvalidInput.field(
            "text/path",
            f'There is no text file "{text.path}" under the data roots.',
            value=text.path,
            expected="a UTF-8 text file under one of the folders in SECATEUR_DATA_ROOTS",
        ) from error


def holds_rows(path: Path) -> bool:
    """Whether a file holds rows of JSON, as its name says, and not plain text."""
    return SUFFIXES.get(path.suffix.lower()) is DatasetFormat.JSONL


def hash_local(text: LocalText, roots: Sequence[Path], *, rows: bool) -> str:
    """sha256 of the bytes that decide what the slice holds, in hexadecimal; all of them are looked at.

    Raises:
        InvalidInput: no such file under the roots, it cannot be opened, or it is no text in UTF-8.
    """
    with _opened(text, find_text_file(text, roots)) as file:
        what = not_text(file.read(HEAD_BYTES))
        if what is not None:
            raise _no_text(text, f'"{text.path}" {what}.')
        start, stop = slice_bytes(file, text, by_line=rows)
        digest = hashlib.sha256()
        if rows and is_array(file):  # where an item begins, all that stands before it decides
            digest.update(f"{text.start} {text.stop} ".encode())
            start, stop = 0, file.seek(0, os.SEEK_END)
        decoder = codecs.getincrementaldecoder("utf-8")()
        file.seek(at := start)
        while at < stop and (chunk := file.read(min(_HASHED_BYTES, stop - at))):
            digest.update(chunk)
            if not rows:  # a row is judged by itself, and named
                _refuse_bytes(chunk, decoder, text, at, final=at + len(chunk) == stop)
            at += len(chunk)
    return digest.hexdigest()


def _opened(text: LocalText, path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        if is_of_the_machine(error):
            raise
        detail = f'"{text.path}" cannot be opened: {error.strerror}.'
        raise _no_text(text, detail) from error


def _refuse_bytes(chunk: bytes, decoder: codecs.IncrementalDecoder, text: LocalText, at: int, *, final: bool) -> None:
    """Refuse what is no text in UTF-8; `at` is where the chunk begins in the file."""
    nul = chunk.find(b"\0")
    if nul >= 0:
        raise _no_text(text, f'"{text.path}" is no text: byte {at + nul:,} is NUL.')
    kept = len(decoder.getstate()[0])  # bytes of a character that began in the chunk before
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        place = at - kept + error.start
        raise _no_text(text, f'"{text.path}" is not UTF-8: byte {place:,} cannot be decoded.') from error


def _no_text(text: LocalText, detail: str) -> InvalidInput:
    return InvalidInput.field("text/path", detail, value=text.path, expected="a text file in UTF-8")


def verify_local(text: LocalText, roots: Sequence[Path], *, rows: bool, sha256: str) -> None:
    """To be called when a slice has been read, whose bytes had this sha256 before.

    Raises:
        StageFailed: they have not now; what is made of them would be kept under another content's key.
    """
    if hash_local(text, roots, rows=rows) != sha256:
        raise _changed(text)


def local_rows(text: LocalText, roots: Sequence[Path]) -> Iterator[tuple[int, Any]]:
    """The rows of JSON that begin in the slice, each with its number in the file.

    Raises:
        InvalidInput: no such file under the roots, or a row that is not JSON.
    """
    path = find_text_file(text, roots)
    with path.open("rb") as file:
        try:
            yield from json_rows(file, *row_bytes(file, text))
        except BadRow as error:
            detail = f'Row {error.number} of "{text.path}" {error.detail}.'
            raise InvalidInput.field("text", detail, value=shown(error.value), expected=error.expected) from error


def local_documents(text: LocalText, roots: Sequence[Path]) -> Iterator[str]:
    """The texts of the rows of the slice.

    Raises:
        InvalidInput: as `local_rows`, or a row of another kind.
    """
    for number, row in local_rows(text, roots):
        found = row_error(row, DatasetKind.TEXT)
        if found is not None:
            detail = f'Row {number} of "{text.path}" {found.detail}.'
            raise InvalidInput.field("text", detail, value=shown(found.value), expected=found.expected)
        yield row["text"]


def local_pieces(text: LocalText, roots: Sequence[Path], *, most: int, enough: int | None = None) -> Iterator[str]:
    """A plain text in pieces, as `plain_pieces` has them.

    Raises:
        InvalidInput: no such file under the roots.
        StageFailed: it is not UTF-8 any more.
    """
    try:
        yield from plain_pieces(find_text_file(text, roots), text, most=most, enough=enough)
    except UnicodeDecodeError as error:
        raise _changed(text) from error


def plain_pieces(path: Path, text: LocalText | UploadText, *, most: int, enough: int | None = None) -> Iterator[str]:
    """The slice of a file of plain text in pieces of about `most` bytes, cut after a line's end where there is one.

    Args:
        enough: so many bytes of a longer slice will do: they are taken at SPANS places, spread evenly over it.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    with path.open("rb") as file:
        start, stop = slice_bytes(file, text, by_line=False)
        spans = [(start, stop)]
        if enough is not None and stop - start > enough:
            edges = [_boundary(file, start + (stop - start) * n // SPANS, stop, by_line=False) for n in range(SPANS)]
            ends = [_boundary(file, edge + enough // SPANS + 1, stop, by_line=False) for edge in edges]
            spans = [(at, min(end, after)) for at, end, after in zip(edges, ends, [*edges[1:], stop], strict=True)]
        for at, end in spans:
            while at < end:
                after = _boundary(file, at + most, end, by_line=False)
                file.seek(at)
                yield file.read(after - at).decode("utf-8-sig" if at == 0 else "utf-8")
                at = after


def slice_size(path: Path, text: LocalText | UploadText, *, rows: bool = False) -> int:
    """Bytes of a slice of plain text, or of rows of JSON."""
    with path.open("rb") as file:
        start, stop = row_bytes(file, text) if rows else slice_bytes(file, text, by_line=False)
    return stop - start


def slice_bytes(file: BinaryIO, text: LocalText | UploadText, *, by_line: bool) -> tuple[int, int]:
    """Where the slice of an open file begins and ends, in bytes; with `by_line` at a line's start, however far off."""
    size = file.seek(0, os.SEEK_END)
    start, stop = (_boundary(file, int(fraction * size), size, by_line=by_line) for fraction in (text.start, text.stop))
    return start, stop


def row_bytes(file: BinaryIO, text: LocalText | UploadText) -> tuple[int, int]:
    """Between which bytes the rows of a slice begin: at lines' starts, or of an array anywhere."""
    if not is_array(file):
        return slice_bytes(file, text, by_line=True)
    size = file.seek(0, os.SEEK_END)
    return int(text.start * size), int(text.stop * size) if text.stop < 1 else size


def _boundary(file: BinaryIO, place: int, size: int, *, by_line: bool) -> int:
    """The next place to cut at: a line's start, or of a text whose lines are longer than that, a character's."""
    if place <= 0 or place >= size:
        return max(0, min(place, size))
    file.seek(at := place - 1)
    while window := file.read(min(_LINE_SEARCH_BYTES, size - at)):
        found = window.find(b"\n")
        if found >= 0:
            return at + found + 1
        if not by_line:
            for offset, byte in enumerate(window[1:5]):
                if byte & 0xC0 != 0x80:  # not a continuation byte of UTF-8
                    return place + offset
            return place if len(window) > 4 else size
        at += len(window)
    return size


def _changed(text: LocalText) -> StageFailed:
    return StageFailed(f'"{text.path}" was changed while it was read.')


def hub_revision(text: HubText) -> str:
    """The commit of the data set that `text` names, so that every stage reads the same rows.

    A text that names a commit is taken at its word, and no hub is asked.

    Raises:
        Unavailable: the hub does not answer.
        InvalidInput: the hub has no such data set or revision.
    """
    from huggingface_hub import HfApi

    if text.revision is not None and _COMMIT.fullmatch(text.revision):
        return text.revision
    try:
        with fetching():
            commit = HfApi().dataset_info(text.id, revision=text.revision, timeout=30).sha
    except Exception as error:
        raise _hub_error(error, text) from error
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise Unavailable(f"The hub did not say which commit the data set {text.id} is at; try again later.")
    return commit


def read_hub(text: HubText, *, revision: str) -> Iterator[str]:
    """The rows of the text column, streamed in the data set's own order.

    Raises:
        Unavailable: the hub does not answer.
        InvalidInput: no such configuration, split or column.
    """
    for row in hub_rows(text, revision=revision):
        yield _cell(row, text)


def hub_rows(text: HubText, *, revision: str) -> Iterator[dict[str, Any]]:
    """Whole rows, streamed in the data set's own order; raises as `read_hub` does.

    The scheme keeps `datasets` from a folder of that name on this machine, which it would read before it asks the hub.
    """
    import datasets  # type: ignore[import-untyped]  # ships no annotations

    path = f"hf://datasets/{text.id}"
    try:
        with fetching():
            yield from datasets.load_dataset(path, text.config, split=text.split, streaming=True, revision=revision)
    except ServiceError:
        raise
    except Exception as error:
        raise _hub_error(error, text) from error


def _cell(row: dict[str, Any], text: HubText) -> str:
    value = row.get(text.column)
    if isinstance(value, str):
        return value
    columns = [name for name, cell in row.items() if isinstance(cell, str)]
    raise InvalidInput.field(
        "text/column",
        f'The data set {text.id} has no text column "{text.column}".',
        value=text.column,
        expected=f"one of {', '.join(columns)}" if columns else "a data set with a column of text",
    )


def _hub_error(error: Exception, text: HubText) -> Exception:
    """What a failure of the hub's client means to the user; the error itself where it is about this machine."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    chain = list(causes(error))
    if isinstance(error, GatedRepoError):
        detail, field = f"The data set {text.id} is gated: the worker's hub token has no access to it.", "id"
    elif any(isinstance(cause, RevisionNotFoundError) for cause in chain):
        detail, field = f"The data set {text.id} has no revision {text.revision}.", "revision"
    elif isinstance(error, RepositoryNotFoundError) or type(error).__name__ == "DatasetNotFoundError":
        detail, field = f"The hub has no data set {text.id} that this worker may read.", "id"
    elif why := why_away(error):
        return Unavailable(
            f"The hub cannot be reached for the data set {text.id} ({why}); use a local text or the "
            "text that the model generates itself, or retry later."
        )
    elif any(is_of_the_machine(cause) for cause in chain):
        return error
    else:  # files that are broken, or that need code; no such configuration or split, of which the message lists those
        detail, field = f"The data set {text.id} cannot be read: {words_of(error)}", _FIELDS.get(str(error)[:9], "id")
    return InvalidInput.field(
        f"text/{field}", detail, value=getattr(text, field), expected="a data set that the hub serves"
    )
