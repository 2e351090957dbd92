"""Where the words come from: a text file under the data roots, or a text column of a hub data set.

Uploaded data sets are read by `uploads.py`.

A slice of a file is taken by fractions of its bytes, moved on to the next start of a line. The same fraction always
gives the same place, so slices that touch (0 to 0.6, 0.6 to 1) are disjoint and together are the whole.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from app.domain.options import HubText, LocalText, UploadText
from app.errors import InvalidInput, ServiceError, StageFailed, Unavailable

MAX_SLICE_BYTES = 2 * 2**30  # what is tokenised at once has to fit in memory
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LINE_SEARCH_BYTES = 1 << 16  # a file without a line break for so long is cut between two characters


def find_text_file(text: LocalText, roots: Sequence[Path], *, pointer: str) -> Path:
    """The file that `text` names, with symlinks followed, which lies under one of `roots`.

    Raises:
        InvalidInput: there is no such file, or it lies elsewhere.
    """
    given = Path(text.path)
    candidates = [given] if given.is_absolute() else [root / given for root in roots]
    for candidate in candidates:
        real = candidate.resolve()
        if any(real.is_relative_to(root.resolve()) for root in roots) and real.is_file():
            return real
    raise InvalidInput.field(
        f"{pointer}/path",
        f'There is no text file "{text.path}" under the data roots.',
        value=text.path,
        expected="a UTF-8 text file under one of the folders in SECATEUR_DATA_ROOTS",
    )


def read_local(text: LocalText, roots: Sequence[Path], *, pointer: str) -> str:
    """The slice of a text file that `text` names.

    Raises:
        InvalidInput: no such file under the roots, not UTF-8, or too large to take at once.
    """
    path = find_text_file(text, roots, pointer=pointer)
    try:
        return read_slice(path, text, name=text.path, pointer=pointer)
    except UnicodeDecodeError as error:
        raise InvalidInput.field(
            f"{pointer}/path",
            f'"{text.path}" is not UTF-8: byte {error.start:,} cannot be decoded.',
            value=text.path,
            expected="a text file in UTF-8",
        ) from error


def hash_local(text: LocalText, roots: Sequence[Path], *, pointer: str) -> str:
    """sha256 of the bytes of the slice that `text` names, in hexadecimal.

    Raises:
        InvalidInput: no such file under the roots.
    """
    digest = hashlib.sha256()
    with find_text_file(text, roots, pointer=pointer).open("rb") as file:
        start, stop = slice_bytes(file, text)
        file.seek(start)
        while start < stop and (chunk := file.read(min(1 << 20, stop - start))):
            digest.update(chunk)
            start += len(chunk)
    return digest.hexdigest()


def read_unchanged(text: LocalText, roots: Sequence[Path], *, pointer: str, sha256: str) -> str:
    """As `read_local`, of a slice whose bytes had this sha256 a moment ago.

    Raises:
        StageFailed: they have not now; what is made of them would be kept under another content's key.
    """
    content = read_local(text, roots, pointer=pointer)
    if hash_local(text, roots, pointer=pointer) != sha256:
        raise StageFailed(f'"{text.path}" was changed while it was read.')
    return content


def read_slice(path: Path, text: LocalText | UploadText, *, name: str, pointer: str) -> str:
    """The part of a UTF-8 file from `text.start` to `text.stop`.

    Raises:
        InvalidInput: it is too large to take at once.
        UnicodeDecodeError: it is not UTF-8; `start` counts the bytes of the file.
    """
    with path.open("rb") as file:
        start, stop = slice_bytes(file, text)
        if stop - start > MAX_SLICE_BYTES:
            raise InvalidInput.field(
                f"{pointer}/stop",
                f'The slice of "{name}" has {stop - start:,} bytes.',
                value=text.stop,
                expected=f"at most {MAX_SLICE_BYTES:,} bytes: choose a narrower slice",
            )
        file.seek(start)
        raw = file.read(stop - start)
    try:
        return raw.decode("utf-8-sig" if start == 0 else "utf-8")
    except UnicodeDecodeError as error:
        error.start, error.end = error.start + start, error.end + start
        raise


def slice_bytes(file: BinaryIO, text: LocalText | UploadText) -> tuple[int, int]:
    """Where the slice of an open file begins and ends, in bytes."""
    size = file.seek(0, os.SEEK_END)
    return _boundary(file, text.start, size), _boundary(file, text.stop, size)


def _boundary(file: BinaryIO, fraction: float, size: int) -> int:
    """The byte at which the slice from or to `fraction` ends: a line's start, or at least a character's."""
    place = int(fraction * size)
    if place == 0 or place >= size:
        return min(place, size)
    file.seek(place - 1)
    window = file.read(_LINE_SEARCH_BYTES)
    found = window.find(b"\n")
    if found >= 0:
        return place + found
    for offset, byte in enumerate(window[1:5]):
        if byte & 0xC0 != 0x80:  # not a continuation byte of UTF-8
            return place + offset
    return place if len(window) > 4 else size


def hub_revision(text: HubText, *, pointer: str) -> str:
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
        commit = HfApi().dataset_info(text.id, revision=text.revision, timeout=30).sha
    except Exception as error:
        raise _hub_error(error, text, pointer) from error
    return str(commit)


def read_hub(text: HubText, *, revision: str, pointer: str) -> Iterator[str]:
    """The rows of the text column, streamed in the data set's own order.

    Raises:
        Unavailable: the hub does not answer.
        InvalidInput: no such configuration, split or column.
    """
    for row in hub_rows(text, revision=revision, pointer=pointer):
        yield _cell(row, text, pointer)


def hub_rows(text: HubText, *, revision: str, pointer: str) -> Iterator[dict[str, Any]]:
    """Whole rows, streamed in the data set's own order; raises as `read_hub` does."""
    import datasets  # type: ignore[import-untyped]  # ships no annotations

    try:
        yield from datasets.load_dataset(text.id, text.config, split=text.split, streaming=True, revision=revision)
    except ServiceError:
        raise
    except Exception as error:
        raise _hub_error(error, text, pointer) from error


def _cell(row: dict[str, Any], text: HubText, pointer: str) -> str:
    value = row.get(text.column)
    if isinstance(value, str):
        return value
    columns = [name for name, cell in row.items() if isinstance(cell, str)]
    raise InvalidInput.field(
        f"{pointer}/column",
        f'The data set {text.id} has no text column "{text.column}".',
        value=text.column,
        expected=f"one of {', '.join(columns)}" if columns else "a data set with a column of text",
    )


def _hub_error(error: Exception, text: HubText, pointer: str) -> ServiceError:
    """What a failure of the hub's client means to the user."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        detail, field = f"The data set {text.id} is gated: the worker's hub token has no access to it.", "id"
    elif isinstance(error, RevisionNotFoundError) or isinstance(error.__cause__, RevisionNotFoundError):
        detail, field = f"The data set {text.id} has no revision {text.revision}.", "revision"
    elif isinstance(error, RepositoryNotFoundError) or type(error).__name__ == "DatasetNotFoundError":
        detail, field = f"The hub has no data set {text.id} that this worker may read.", "id"
    elif isinstance(error, ValueError):  # no such configuration or split; the message lists those that there are
        detail, field = f"The data set {text.id} cannot be read: {_first_line(error)}", "config"
    else:
        return Unavailable(
            f"The hub cannot be reached for the data set {text.id} ({type(error).__name__}); use a local text or the "
            "text that the model generates itself, or retry later."
        )
    return InvalidInput.field(
        f"{pointer}/{field}", detail, value=getattr(text, field), expected="a data set that the hub serves"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:500]
