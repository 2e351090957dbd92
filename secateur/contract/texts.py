"""The texts that a spec names, wherever they stand in it; and files that are no text, by their first bytes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar, get_args

from pydantic import BaseModel

from secateur.contract.validation_errors import pointer_of

HEAD_BYTES = 4096  # of a file, that `not_text` looks at

Source = TypeVar("Source", bound=BaseModel)


def texts_of(
    value: BaseModel | tuple[object, ...], kind: type[Source], path: tuple[str | int, ...] = ()
) -> list[tuple[str, Source]]:
    """Every text of this kind in a spec, or in a part of one that stands at `path`, with the pointer to it."""
    if isinstance(value, kind):
        return [(pointer_of(path), value)]
    if isinstance(value, tuple):
        parts: Iterable[tuple[str | int, Any]] = enumerate(value)
    else:
        parts = [(name, getattr(value, name)) for name in _ways(type(value), kind)]
    found = []
    for place, item in parts:
        if isinstance(item, (BaseModel, tuple)):
            found += texts_of(item, kind, (*path, place))
    return found


@cache
def _ways(model: type[BaseModel], kind: type[BaseModel]) -> tuple[str, ...]:
    """The fields of a model in which such a text may lie. Every job is searched several times, and few fields may."""
    return tuple(name for name, field in model.model_fields.items() if _leads_to(field.annotation, kind))


def _leads_to(annotation: Any, kind: type[BaseModel]) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return issubclass(annotation, kind) or bool(_ways(annotation, kind))
    return any(_leads_to(part, kind) for part in get_args(annotation))


def not_text(head: bytes) -> str | None:
    """Why a file that begins so is no text in UTF-8, as the end of a sentence that begins with its name; or None.

    >>> not_text(b"PAR1"), not_text(b"Once upon a time")
    ('is a Parquet file, which is not read from a data root; upload it', None)
    """
    for start, what in _NO_TEXT.items():
        if head.startswith(start):
            return what
    nul = head.find(b"\0")
    return f"is no text: byte {nul:,} is NUL" if nul >= 0 else None


_NO_TEXT = {
    b"PAR1": "is a Parquet file, which is not read from a data root; upload it",
    b"\xff\xfe": "is not UTF-8: it begins with the mark of UTF-16",
    b"\xfe\xff": "is not UTF-8: it begins with the mark of UTF-16",
    b"\x1f\x8b": "is compressed with gzip",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd",
    b"PK\x03\x04": "is a ZIP archive",
    b"%PDF": "is a PDF file",
    b"version https://git-lfs": "is a pointer of Git LFS: fetch the file itself with `git lfs pull`",
}
