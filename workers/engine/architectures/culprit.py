"""Which entry of a config is to blame where a library does not take the whole: the one without which it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_BOUNDS = frozenset({"vocab_size"})  # what other entries are held against, which are to blame before it


def entry_to_blame(entries: Mapping[str, Any], works: Callable[[dict[str, Any]], Any]) -> str | None:
    """The first entry without which the rest is taken; None where no single one is to blame.

    Args:
        works: raises whatever it likes over entries that it does not take.
    """
    for key in sorted(entries, key=_BOUNDS.__contains__):  # the order is kept otherwise
        try:
            works({name: value for name, value in entries.items() if name != key})
        except Exception:  # each library has its own kinds
            continue
        return key
    return None
