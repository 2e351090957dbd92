"""JSON that anyone may have written: what is wrong with it is told in words of our own, with its place.

Python refuses to turn more than some thousand digits into a number, since that takes quadratic time, and says so in
words about itself. Where it does, the text is read once more with such numbers marked, and the first of them is named.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from secateur.contract.shown import shortened

MAX_DIGITS = sys.int_info.default_max_str_digits
EXPECTED = f"a number of at most {MAX_DIGITS:,} digits"


# What is wrong, by how Python's parser begins to tell it.
_FAULTS = {
    "Expecting value": "a value is missing, or is none of JSON's",
    "Expecting property name": 'a key in double quotes (") is missing',
    "Illegal trailing comma": "a comma stands before a closing bracket",
    "Expecting ',' delimiter": "a comma or a closing bracket is missing",
    "Expecting ':' delimiter": "the colon after a key is missing",
    "Unterminated string": "a text begins that has no end",
    "Invalid control character": "a text has a line break or another control character in it",
    "Invalid \\": "a text has a backslash before what JSON does not escape",
    "Extra data": "more follows after its end",
    "Unexpected UTF-8 BOM": "a byte order mark stands before it",
}


class LongNumber(ValueError):
    """A whole number with more digits than are read: how many, how it begins, and its JSON pointer."""

    def __init__(self, pointer: str, text: str) -> None:
        self.pointer, self.value = pointer, shortened(text)
        self.detail = f"has a number of {len(text.lstrip('-')):,} digits, and at most {MAX_DIGITS:,} are read"
        super().__init__(f"{self.detail}, at {pointer}" if pointer else self.detail)


class _Long(str):
    """The digits of a number that is too long."""


def load_json(text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """`json.loads`, with `pairs` as its `object_pairs_hook`.

    Raises:
        LongNumber: a whole number has too many digits.
        ValueError, RecursionError: as `json.loads` does.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError:
        raise
    except ValueError:
        found = _first_long(json.loads(text, parse_int=_whole))
        if found is None:
            raise
        raise found from None


def fault_of(error: Exception) -> str:
    """What is wrong with a text that `load_json` did not take, and where: to stand after "is not JSON: "."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start:,} begins no character of UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeEncodeError):
        return "a text has half of a surrogate pair"
    if not isinstance(error, json.JSONDecodeError):
        return "it cannot be read"
    what = next((words for begins, words in _FAULTS.items() if error.msg.startswith(begins)), "it breaks off")
    where = f"line {error.lineno:,}, column {error.colno:,}" if error.lineno > 1 else f"character {error.colno:,}"
    return f"{what}, at {where}"


def _whole(digits: str) -> int | _Long:
    return int(digits) if len(digits.lstrip("-")) <= MAX_DIGITS else _Long(digits)


def _first_long(value: Any) -> LongNumber | None:
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        pointer, here = waiting.pop()
        if isinstance(here, _Long):
            return LongNumber(pointer, here)
        held = here.items() if isinstance(here, dict) else enumerate(here) if isinstance(here, list) else ()
        below = [(f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}", item) for name, item in held]
        waiting += reversed(below)
    return None
