"""Finding the texts that a spec names, wherever they stand in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel

from app.domain.explain import pointer_of

Source = TypeVar("Source", bound=BaseModel)


def texts_of(value: object, kind: type[Source], path: tuple[str | int, ...] = ()) -> Iterator[tuple[str, Source]]:
    """Every text of this kind in a spec, or in a part of one that stands at `path`, with the pointer to it."""
    if isinstance(value, kind):
        yield pointer_of(path), value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from texts_of(getattr(value, name), kind, (*path, name))
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from texts_of(item, kind, (*path, i))
