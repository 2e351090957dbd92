"""A page of a list."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import Field

from app.schemas.base import Body

Item = TypeVar("Item")


class Page(Body, Generic[Item]):
    """Some items of a list, and where the next ones begin."""

    data: list[Item]
    has_more: bool
    next_cursor: str | None = Field(
        default=None, description="Give it as `cursor` to get the next page; null on the last page."
    )
