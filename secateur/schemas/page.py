"""A page of a list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Generic, TypeVar

from pydantic import Field

from secateur.schemas.base import Body

Item = TypeVar("Item")


class Page(Body, Generic[Item]):
    """Some items of a list, and where the next ones begin."""

    data: list[Item]
    has_more: bool
    next_cursor: str | None = Field(
        default=None, description="Give it as `cursor` to get the next page; null on the last page."
    )


def page_of(texts: Sequence[str], *, has_more: bool, next_cursor: str | None) -> str:
    """A page as JSON, of items that are JSON already."""
    return f'{{"data":[{",".join(texts)}],"has_more":{json.dumps(has_more)},"next_cursor":{json.dumps(next_cursor)}}}'
