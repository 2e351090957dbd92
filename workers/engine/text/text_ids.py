"""From a text that is given to its token ids: read, joined, tokenised once, and kept under what it was made of.

Of a long text no more is read than is wanted: from its start where it is measured on, and where windows are drawn, at
places that are spread over a plain text, or of the first documents of any other source.

The key is the content itself: the sha256 of a file's slice or of an upload, the commit of a data set on the hub; with
the tokenizer's fingerprint and how documents are joined. A stream is read as far as is wanted, and written as it
comes, so there may be more tokens than memory, and an attempt that goes on after a kill finds the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from transformers import PreTrainedTokenizerBase

from secateur.contract.datasets import DatasetFormat
from secateur.contract.errors import InvalidInput
from secateur.contract.options.texts import HubText, LocalText, NamedText, UploadText
from secateur.contract.protocol import UploadedFile
from workers.engine.progress import Progress, no_progress
from workers.engine.text.named_texts import NamedSource
from workers.engine.text.sources import (
    find_text_file,
    hash_local,
    holds_rows,
    hub_revision,
    local_documents,
    local_pieces,
    read_hub,
    slice_size,
    verify_local,
)
from workers.engine.text.token_cache import TokenIds, kept_ids
from workers.engine.text.tokenizing import BoundedEncoder
from workers.engine.text.uploads import describe_upload, find_upload, rows_size, upload_documents, upload_pieces

GivenText = NamedText | HubText | LocalText | UploadText
Uploads = Mapping[UUID, UploadedFile]

CHUNK_BYTES = 4_000_000  # text tokenised in one call; longer ones are cut at the end of a line
TIMED_BYTES = 250_000  # the same where a clock may end it in between
WHOLE_BYTES = 1_000_000  # a text up to this length is tokenised whole, whatever is wanted of it
TOKEN_BYTES = 8  # of a token, generously: how much of a long text is read for so many tokens
DRAWN_TOKENS = 500_000  # of documents on this machine, of which windows are drawn, at least so many are read
MAX_STREAM_TOKENS = 100_000_000  # where nothing bounds what is read of a hub data set


@dataclass(frozen=True)
class TextIds:
    """Token ids of a text, and what is said of it."""

    ids: TokenIds  # (tokens,) int32, mapped from a file; no beginning-of-text token
    description: str
    identity: str
    key: dict[str, Any]  # under which the ids are kept
    whole: bool  # whether they are of all that the text has
    revision: str | None = None  # commit, of what came from the hub


@dataclass(frozen=True)
class _Plan:
    """How to make the ids, and under which key they are kept."""

    key: dict[str, Any]
    pieces: Callable[[], Iterator[str]]
    description: str
    identity: str
    revision: str | None = None
    stop_after: int | None = None
    whole: bool = True
    size: int | None = None  # bytes that are read; of documents about, and where nothing else ends it
    verify: Callable[[], None] = lambda: None  # whether what was read is what the key says


@dataclass(frozen=True)
class _Reading:
    """How much of a file of plain text is read, and how."""

    size: int | None = None  # bytes, at most
    most: int = CHUNK_BYTES  # bytes at a time
    enough: int | None = None  # bytes, at places spread over it; None: from its start
    stop_after: int | None = None  # tokens

    @property
    def key(self) -> dict[str, Any]:
        return {"most": self.most, "enough": self.enough, "stop_after": self.stop_after}

    @property
    def whole(self) -> bool:
        return self.enough is None and self.stop_after is None


def text_ids(
    text: GivenText,
    *,
    tokenizer: Callable[[], PreTrainedTokenizerBase],
    fingerprint: str,
    roots: Sequence[Path],
    uploads: Uploads,
    cache: Path,
    measuring: bool,
    wanted: int | None,
    timed: bool = False,
    progress: Progress = no_progress,
) -> TextIds:
    """The token ids of `text`, from the machine's cache where they have been made before.

    Args:
        tokenizer: called if they have to be made.
        fingerprint: the tokenizer's.
        measuring: whether it is measured on, which chooses the part of a named set, and takes a text from its start.
        wanted: how many tokens are needed, of which windows are drawn or the first are taken; what goes far beyond is
            neither read nor tokenised. None: all.
        timed: a clock may end it at the progress, so it is told after short pieces, and no more is read than is wanted.

    Raises:
        InvalidInput: the text cannot be read.
        Unavailable: the hub does not answer.
    """
    plan = _plan(text, roots=roots, uploads=uploads, cache=cache, measuring=measuring, wanted=wanted, timed=timed)
    key = {"tokenizer": fingerprint, "chunk": CHUNK_BYTES, **plan.key}

    def make() -> Iterator[TokenIds]:
        yield from tokenize(tokenizer(), plan.pieces(), stop_after=plan.stop_after, size=plan.size, progress=progress)
        plan.verify()

    ids = kept_ids(cache, key, make)
    return TextIds(ids, plan.description, plan.identity, key, plan.whole, plan.revision)


def _plan(
    text: GivenText,
    *,
    roots: Sequence[Path],
    uploads: Uploads,
    cache: Path,
    measuring: bool,
    wanted: int | None,
    timed: bool,
) -> _Plan:
    documents = wanted if measuring or timed or wanted is None else max(wanted, DRAWN_TOKENS)  # tokens of them
    if isinstance(text, LocalText):
        return _local(text, roots, measuring=measuring, wanted=wanted, timed=timed, documents=documents)
    if isinstance(text, UploadText):
        file = find_upload(text, uploads)
        key = {"upload": file.sha256, "format": file.format, "slice": [text.start, text.stop]}
        described = describe_upload(text, file)
        if file.format is DatasetFormat.TEXT:
            reading = _reading(slice_size(file.path, text), wanted, measuring=measuring, timed=timed)
            return _Plan(
                key=key | reading.key,
                pieces=partial(upload_pieces, text, file, most=reading.most, enough=reading.enough),
                description=described,
                identity=file.sha256,
                stop_after=reading.stop_after,
                whole=reading.whole,
                size=reading.size,
            )
        return _Plan(
            key=key | {"stop_after": documents},
            pieces=lambda: _joined(upload_documents(text, file)),
            description=described,
            identity=file.sha256,
            stop_after=documents,
            whole=documents is None,
            size=rows_size(text, file),
        )
    if isinstance(text, NamedText):
        named = NamedSource(text, measuring=measuring, cache=cache)
        return _Plan(
            key={
                "named": [named.set.id, named.commit, named.file, named.set.column],
                "documents": named.set.documents.get(named.split),
                "between": named.set.between,
                "stop_after": documents,
            },
            pieces=lambda: _joined(named.documents(), between=named.set.between),
            description=named.description,
            identity=named.set.id,
            revision=named.commit,
            stop_after=documents,
            whole=documents is None,
            size=named.size,
        )
    revision = hub_revision(text)
    stop_after = MAX_STREAM_TOKENS if wanted is None else wanted
    name = " ".join(part for part in (text.id, text.config, text.split) if part)
    return _Plan(
        key={"hub": [text.id, text.config, text.split, text.column, revision], "stop_after": stop_after},
        pieces=lambda: _joined(read_hub(text, revision=revision)),
        description=f"{name} at {revision[:12]}",
        identity=text.id,
        revision=revision,
        stop_after=stop_after,
    )


def _local(
    text: LocalText,
    roots: Sequence[Path],
    *,
    measuring: bool,
    wanted: int | None,
    timed: bool,
    documents: int | None,
) -> _Plan:
    path = find_text_file(text, roots)
    rows = holds_rows(path)
    sha256 = hash_local(text, roots, rows=rows)
    size = slice_size(path, text, rows=rows)
    reading = _Reading(size, stop_after=documents) if rows else _reading(size, wanted, measuring=measuring, timed=timed)

    def pieces() -> Iterator[str]:
        if rows:
            return _joined(local_documents(text, roots))
        return local_pieces(text, roots, most=reading.most, enough=reading.enough)

    return _Plan(
        key={"local": sha256, "rows": rows, **reading.key},
        pieces=pieces,
        description=f"{text.path}, {text.start:g} to {text.stop:g}",
        identity=text.path,
        stop_after=reading.stop_after,
        whole=reading.whole,
        size=reading.size,
        verify=partial(verify_local, text, roots, rows=rows, sha256=sha256),
    )


def _reading(size: int, wanted: int | None, *, measuring: bool, timed: bool) -> _Reading:
    """How to read a text of `size` bytes of which so many tokens are wanted."""
    most = TIMED_BYTES if timed else CHUNK_BYTES
    if wanted is None or size <= max(0 if timed else WHOLE_BYTES, wanted * TOKEN_BYTES):
        return _Reading(size, most)
    if measuring:
        return _Reading(most=min(most, max(WHOLE_BYTES // 16, wanted * TOKEN_BYTES)), stop_after=wanted)
    return _Reading(wanted * TOKEN_BYTES, most, enough=wanted * TOKEN_BYTES)


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    pieces: Iterator[str],
    *,
    stop_after: int | None = None,
    size: int | None = None,
    progress: Progress = no_progress,
) -> Iterator[TokenIds]:
    """Token ids of the pieces of one text, one after the other, as they are: no special token is added.

    Args:
        stop_after: read no further piece once there are so many tokens.
        size: of all pieces, about, in bytes, for the progress where no number of tokens ends it.

    Yields:
        (tokens,), int32: half the memory of torch's integers.

    Raises:
        InvalidInput: the tokenizer broke on the text, or there is nothing in it.
    """
    total = read = 0
    blank: str | None = None  # the text's beginning, as long as there is nothing to read in it
    with BoundedEncoder(tokenizer) as encoder:
        for number, piece in enumerate(pieces):
            if number == 0 or blank is not None:
                blank = None if piece.strip() else piece[:20]
            ids = encoder.ids(piece).astype(np.int32)
            total += len(ids)
            yield ids
            if stop_after is not None:
                progress(min(total, stop_after), stop_after, "tokens")
                if total >= stop_after:
                    break
            elif size:
                read += len(piece.encode())
                progress(min(read, size - 1), size, "bytes")  # what comes is known when it has come
    if stop_after is None and size:
        progress(size, size, "bytes")
    if blank:
        detail = "The text holds nothing but white space, as far as it is read."
        raise InvalidInput.field("text", detail, value=blank, expected="a text with words in it")


def _joined(rows: Iterator[str], *, between: str = "\n\n") -> Iterator[str]:
    """Rows joined, by empty lines as WikiText is measured, in pieces that are worth a call of the tokenizer."""
    held: list[str] = []
    size = 0
    first = True
    for row in rows:
        held.append(row)
        size += len(row)
        if size >= CHUNK_BYTES // 16:
            yield ("" if first else between) + between.join(held)
            held, size, first = [], 0, False
    if held:
        yield ("" if first else between) + between.join(held)
