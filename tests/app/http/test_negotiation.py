from __future__ import annotations

import pytest

from app.http.negotiation import preferred
from secateur.contract.errors import NotAcceptable

OFFERED = ["application/json", "text/html", "text/event-stream"]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/*", "text/html"),
        ("text/html", "text/html"),
        ("TEXT/HTML; charset=utf-8", "text/html"),
        ("text/html;q=0.5, application/json;q=0.4", "text/html"),
        ("text/html;q=0.5, */*;q=0.8", "application/json"),
        ("application/json;q=0, */*", "text/html"),
        ("image/png, text/event-stream;q=0.1", "text/event-stream"),
        ("text/html;q=nonsense, application/json;q=0.1", "application/json"),
        (",,text/html,", "text/html"),
    ],
)
def test_the_heaviest_offered_type_is_chosen(accept: str | None, chosen: str) -> None:
    assert preferred(accept, OFFERED) == chosen


@pytest.mark.parametrize("accept", ["image/png", "application/json;q=0", "nonsense", "*/*;q=0"])
def test_nothing_that_is_offered(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="there is application/json"):
        preferred(accept, OFFERED)
