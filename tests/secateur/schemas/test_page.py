"""A page that is put together from texts is the page that its items make."""

from __future__ import annotations

import pytest

from secateur.schemas.base import Body
from secateur.schemas.page import Page, page_of


class Item(Body):
    name: str


@pytest.mark.parametrize("items", [[], [Item(name='a "b", [c]')], [Item(name="a"), Item(name="ü")]])
@pytest.mark.parametrize(("has_more", "cursor"), [(False, None), (True, 'x"y\\')])
def test_a_page_of_texts(items: list[Item], has_more: bool, cursor: str | None) -> None:
    text = page_of([item.model_dump_json() for item in items], has_more=has_more, next_cursor=cursor)
    page = Page[Item](data=items, has_more=has_more, next_cursor=cursor)
    assert Page[Item].model_validate_json(text) == page


def test_the_last_page_has_no_cursor() -> None:
    assert Page[Item](data=[], has_more=False).next_cursor is None
