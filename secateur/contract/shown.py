"""What an error repeats of a user's input: values as JSON, no longer than a line, and words that can be printed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

LINE_CHARACTERS = 300  # of another library's error
SHOWN_CHARACTERS = 200  # how much of a wrong value is repeated in an error
NAME_CHARACTERS = 100  # of a name that stands within a sentence

_SENTENCE_END = re.compile(r"[.!?](?=\s)")
_WORD_END = re.compile(r"(?<=\S)(?=\s)")


def printable(text: str) -> str:
    """`text` as one line that a terminal, a log and a page can show: it may quote names and bytes of a user's file."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)


def shortened(text: str, characters: int = NAME_CHARACTERS) -> str:
    """`text`, or as much as so many characters hold, with "…" for the rest: whole sentences, else whole words.

    What has no such place in its second half, such as one long word, is cut within.
    """
    if len(text) <= characters:
        return text
    for end in (_SENTENCE_END, _WORD_END):
        places = [found.end() for found in end.finditer(text[: characters - 1])]
        if places and places[-1] >= characters // 2:
            return f"{text[: places[-1]]} …"
    return f"{text[: characters - 1]}…"


def sentence(text: str) -> str:
    """`text` with a mark at its end."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def first_line(error: BaseException) -> str:
    """What another library's error begins with, as a part of a sentence: one line that can be shown."""
    return shortened(printable(next(iter(str(error).strip().splitlines()), type(error).__name__)), LINE_CHARACTERS)


def shown(value: Any) -> Any:
    """`value` as an error repeats it: JSON, and no longer than a line."""
    if value is None or isinstance(value, bool | int):
        return value if not isinstance(value, int) or abs(value) < 2**63 else _digits(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode("utf-8")
        return shortened(value, SHOWN_CHARACTERS)
    if isinstance(value, Mapping | list | tuple):
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            text = " " * (SHOWN_CHARACTERS + 1)
        if len(text) <= SHOWN_CHARACTERS and "\\ud" not in text:
            return value
        return f"an object of {len(value)} fields" if isinstance(value, Mapping) else f"an array of {len(value)} items"
    return shortened(str(value), SHOWN_CHARACTERS)


def _digits(number: int) -> str:
    try:
        return shortened(str(number), SHOWN_CHARACTERS)
    except ValueError:  # Python writes no number of more than some thousand digits
        return f"a number of {number.bit_length():,} bits"
