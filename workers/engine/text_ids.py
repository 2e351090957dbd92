"""From a text that is given to its token ids: read, joined, tokenised once, and kept under what it was made of.

The key is the content itself: the sha256 of a file's slice or of an upload, the commit of a data set on the hub; with
the tokenizer's fingerprint and how documents are joined. A stream is read as far as is wanted, and written as it
comes, so there may be more tokens than memory, and an attempt that goes on after a kill finds the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
from transformers import PreTrainedTokenizerBase

from app.domain.datasets import DatasetFormat
from app.domain.options import HubText, LocalText, NamedText, UploadText
from app.domain.protocol import UploadedFile
from workers.engine.kept import TokenIds, kept_ids
from workers.engine.named_texts import NamedSource
from workers.engine.progress import Progress, no_progress
from workers.engine.texts import hash_local, hub_revision, read_hub, read_unchanged
from workers.engine.uploads import describe_upload, find_upload, upload_documents, upload_text

GivenText = NamedText | HubText | LocalText | UploadText
Uploads = Mapping[UUID, UploadedFile]

CHUNK_CHARS = 4_000_000  # text tokenised in one call; longer ones are cut at the end of a line
MAX_STREAM_TOKENS = 100_000_000  # where nothing bounds what is read of a hub data set


@dataclass(frozen=True)
class TextIds:
    """All token ids of a text, and what is said of it."""

    ids: TokenIds  # (tokens,) int32, mapped from a file
    description: str
    identity: str
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
    pointer: str,
    progress: Progress = no_progress,
) -> TextIds:
    """The token ids of `text`, from the machine's cache where they have been made before.

    Args:
        tokenizer: called if they have to be made.
        fingerprint: the tokenizer's.
        measuring: whether it is measured on, which chooses the part of a named set.
        wanted: how many tokens of a stream are needed; files are tokenised whole.
        pointer: the text's place in the spec.

    Raises:
        InvalidInput: the text cannot be read.
        Unavailable: the hub does not answer.
    """
    plan = _plan(text, roots=roots, uploads=uploads, cache=cache, measuring=measuring, wanted=wanted, pointer=pointer)
    key = {"tokenizer": fingerprint, "chunk": CHUNK_CHARS, **plan.key}

    def make() -> Iterator[TokenIds]:
        return tokenize(tokenizer(), plan.pieces(), stop_after=plan.stop_after, progress=progress)

    return TextIds(kept_ids(cache, key, make), plan.description, plan.identity, plan.revision)


def _plan(
    text: GivenText,
    *,
    roots: Sequence[Path],
    uploads: Uploads,
    cache: Path,
    measuring: bool,
    wanted: int | None,
    pointer: str,
) -> _Plan:
    if isinstance(text, LocalText):
        sha256 = hash_local(text, roots, pointer=pointer)
        return _Plan(
            key={"local": sha256},
            pieces=lambda: _pieces(read_unchanged(text, roots, pointer=pointer, sha256=sha256)),
            description=f"{text.path}, {text.start:g} to {text.stop:g}",
            identity=text.path,
        )
    if isinstance(text, UploadText):
        file = find_upload(text, uploads, pointer=pointer)
        return _Plan(
            key={"upload": file.sha256, "format": file.format, "slice": [text.start, text.stop]},
            pieces=partial(_pieces_of_upload, text, file, pointer),
            description=describe_upload(text, file),
            identity=file.sha256,
        )
    if isinstance(text, NamedText):
        named = NamedSource(text, measuring=measuring, cache=cache)
        return _Plan(
            key={
                "named": [named.set.id, named.commit, named.file, named.set.column],
                "documents": named.set.documents.get(named.split),
                "between": named.set.between,
            },
            pieces=lambda: _joined(named.documents(), between=named.set.between),
            description=named.description,
            identity=named.set.id,
            revision=named.commit,
        )
    revision = hub_revision(text, pointer=pointer)
    stop_after = MAX_STREAM_TOKENS if wanted is None else wanted
    name = " ".join(part for part in (text.id, text.config, text.split) if part)
    return _Plan(
        key={"hub": [text.id, text.config, text.split, text.column, revision], "stop_after": stop_after},
        pieces=lambda: _joined(read_hub(text, revision=revision, pointer=pointer)),
        description=f"{name} at {revision[:12]}",
        identity=text.id,
        revision=revision,
        stop_after=stop_after,
    )


def _pieces_of_upload(text: UploadText, file: UploadedFile, pointer: str) -> Iterator[str]:
    if file.format is DatasetFormat.TEXT:
        return _pieces(upload_text(text, file, pointer=pointer))
    return _joined(upload_documents(text, file, pointer=pointer))


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    pieces: Iterator[str],
    *,
    stop_after: int | None = None,
    progress: Progress = no_progress,
) -> Iterator[TokenIds]:
    """Token ids of the pieces of one text, one after the other; a beginning-of-text token only at its start.

    Args:
        stop_after: read no further piece once there are so many tokens.

    Yields:
        (tokens,), int32: half the memory of torch's integers.
    """
    empty = cast(list[int], tokenizer("")["input_ids"])
    first = np.array([token for token in empty[:1] if token == tokenizer.bos_token_id], dtype=np.int32)
    total = len(first)
    yield first
    for piece in pieces:
        encoded = tokenizer(piece, add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids = np.array(encoded["input_ids"], dtype=np.int32)
        total += len(ids)
        yield ids
        if stop_after is not None:
            progress(min(total, stop_after), stop_after, "tokens")
            if total >= stop_after:
                return


def _pieces(text: str) -> Iterator[str]:
    """`text` in pieces of at most CHUNK_CHARS or a little more, cut after a line's end."""
    start = 0
    while start < len(text):
        end = start + CHUNK_CHARS
        if end < len(text):
            end = text.find("\n", end) + 1 or end
        yield text[start:end]
        start = end


def _joined(rows: Iterator[str], *, between: str = "\n\n") -> Iterator[str]:
    """Rows joined, by empty lines as WikiText is measured, in pieces that are worth a call of the tokenizer."""
    held: list[str] = []
    size = 0
    first = True
    for row in rows:
        held.append(row)
        size += len(row)
        if size >= CHUNK_CHARS // 16:
            yield ("" if first else between) + between.join(held)
            held, size, first = [], 0, False
    if held:
        yield ("" if first else between) + between.join(held)
