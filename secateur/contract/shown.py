"""What an error repeats of a user's input: values as JSON, no longer than a line, and words that can be printed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

LINE_CHARACTERS = 300  # of another library's error
SHOWN_CHARACTERS = 200  # how much of a wrong value is repeated in an error


def printable(text: str) -> str:
    """`text` as one line that a terminal, a log and a page can show: it may quote names and bytes of a user's file."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)


def first_line(error: BaseException) -> str:
    """What another library's error begins with, as a part of a sentence: one line that can be shown."""
    text = printable(next(iter(str(error).strip().splitlines()), type(error).__name__))
    return text if len(text) <= LINE_CHARACTERS else text[:LINE_CHARACTERS] + "…"


def shown(value: Any) -> Any:
    """`value` as an error repeats it: JSON, and no longer than a line."""
    if value is None or isinstance(value, bool | int):
        return value if not isinstance(value, int) or abs(value) < 2**63 else str(value)[:SHOWN_CHARACTERS]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode("utf-8")
        return value if len(value) <= SHOWN_CHARACTERS else value[:SHOWN_CHARACTERS] + "…"
    if isinstance(value, Mapping | list | tuple):
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            text = " " * (SHOWN_CHARACTERS + 1)
        if len(text) <= SHOWN_CHARACTERS and "\\ud" not in text:
            return value
        return f"an object of {len(value)} fields" if isinstance(value, Mapping) else f"an array of {len(value)} items"
    return str(value)[:SHOWN_CHARACTERS]
