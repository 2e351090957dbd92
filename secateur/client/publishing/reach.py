"""Whether anything answers at an address: libraries try that for minutes, and some blame the credentials."""

from __future__ import annotations

import httpx

from secateur.client.errors import TargetFailed
from secateur.contract.shown import first_line
from secateur.masking import redact

_SECONDS = 20.0


def check_reach(name: str, url: str) -> None:
    """Raises TargetFailed: nothing answers; whatever else an answer says is no matter here."""
    try:
        httpx.get(url, timeout=_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TargetFailed(redact(f"{name} at {url} does not answer: {first_line(error)}")) from None
