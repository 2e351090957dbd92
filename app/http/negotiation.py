"""Which of the offered media types a client prefers (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.contract.errors import NotAcceptable
from secateur.contract.shown import SHOWN_CHARACTERS, shortened


def preferred(accept: str | None, offered: Sequence[str]) -> str:
    """The media type of `offered` that `accept` weighs highest; among equals, the one offered first.

    Raises:
        NotAcceptable: the header excludes them all.
    """
    if not accept or not accept.strip():
        return offered[0]
    ranges = [_parse(part) for part in accept.split(",") if part.strip()]
    best = max(offered, key=lambda media: (_quality(media, ranges), -offered.index(media)))
    if _quality(best, ranges) <= 0:
        raise NotAcceptable(
            f"none of {shortened(accept, SHOWN_CHARACTERS)} is offered here; there is {', '.join(offered)}"
        )
    return best


def _parse(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                quality = 0.0
    return media, quality


def _quality(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Of the ranges that match, the most specific one counts."""
    for wanted in (media, media.split("/")[0] + "/*", "*/*"):
        found = [quality for name, quality in ranges if name == wanted]
        if found:
            return max(found)
    return 0.0
