"""The ids of tokens that a config names: which they are, and the same config with other ids.

A config names them one by one, in lists, and in lists of lists: what begins and ends a text, what may not be written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Change = Callable[[int], int | None]  # an id as it is from now on; None where its token is gone

_NAMES = re.compile(r"(?:^|_)token_(?:ids?|index)$")
_LISTS = frozenset({"bad_words_ids", "begin_suppress_tokens", "force_words_ids", "suppress_tokens"})
_FORCED = "forced_decoder_ids"  # pairs of a place and a token
_BIAS = "sequence_bias"  # pairs of a sequence of tokens and a number


def named_ids(entries: Mapping[str, Any]) -> set[int]:
    """Every id that the config names, within it at any depth."""
    found: set[int] = set()

    def seen(number: int) -> int:
        found.add(number)
        return number

    with_ids(entries, seen)
    return found


def with_ids(entries: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The config with every id changed; one whose token is gone leaves its list, or is null."""
    return {key: _entry(key, value, change) for key, value in entries.items()}


def _entry(key: str, value: Any, change: Change) -> Any:
    if isinstance(value, Mapping):
        return with_ids(value, change)
    if key in _LISTS or _NAMES.search(key):
        return _changed(value, change)
    if key == _FORCED and isinstance(value, list):
        pairs = [[place, _changed(number, change)] for place, number in value]
        return [pair for pair in pairs if pair[1] is not None]
    if key == _BIAS and isinstance(value, list):
        return [[_changed(tokens, change), bias] for tokens, bias in value]
    return value


def _changed(value: Any, change: Change) -> Any:
    if isinstance(value, list):
        return [found for item in value if (found := _changed(item, change)) is not None]
    return change(value) if type(value) is int else value
