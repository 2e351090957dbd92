"""The Cancel-After header: how long a job may take, waiting included."""

from __future__ import annotations

import re
from datetime import timedelta

from secateur.contract.errors import FieldError, InvalidInput

_DURATION = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,6})h)?(?:(\d{1,8})m)?(?:(\d{1,9})s)?", re.ASCII)
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)

LEAST = timedelta(seconds=1)
GREATEST = timedelta(days=30)
EXPECTED = 'a duration from 1s to 30d, such as "90s", "1h30m" or a number of seconds'


def parse_duration(text: str) -> timedelta:
    """ "1h30m" → 90 minutes; a bare number is seconds. Raises InvalidInput."""
    text = text.strip()
    parts = _DURATION.fullmatch(text)
    if _SECONDS.fullmatch(text):
        duration = timedelta(seconds=int(text))
    elif text and parts:
        days, hours, minutes, seconds = (int(part or 0) for part in parts.groups())
        duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    else:
        raise _invalid("Cancel-After is not a duration", text)
    if not LEAST <= duration <= GREATEST:
        raise _invalid("Cancel-After is out of range", text)
    return duration


def _invalid(detail: str, text: str) -> InvalidInput:
    return InvalidInput(detail, errors=[FieldError("", detail, text, EXPECTED, "header Cancel-After")])
