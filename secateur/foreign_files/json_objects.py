"""JSON objects out of files that may come from anyone: configs, indexes, headers of safetensors files.

The API and the stages read them by the same rules, so that neither takes what the other refuses. Depth is bounded
because whoever copies or compares a value later goes down by recursion; size is bounded by whoever reads the file.
"""

from __future__ import annotations

from typing import Any

from secateur.contract.errors import BadCheckpoint
from secateur.contract.json_text import LongNumber, fault_of, load_json
from secateur.contract.shown import NAME_CHARACTERS, printable, shortened

MAX_CONFIG_BYTES = 1_000_000  # a large config.json has some tens of kilobytes
MAX_DEPTH = 64  # of objects and lists within each other; a real config has about six


def load_json_object(raw: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object; `what` opens the sentence of the error.

    Raises:
        BadCheckpoint: not UTF-8, not JSON, nested too deeply, not an object, a key twice, or a number too long.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise BadCheckpoint(f"{what} has the key {quoted(key)} twice.")
            key.encode()  # half a surrogate pair is a ValueError here, not later when a header is written
            if isinstance(value, str):
                value.encode()
            result[key] = value
        return result

    try:
        value = load_json(raw.decode("utf-8"), pairs=unique)
    except LongNumber as error:
        where = shortened(printable(error.pointer), 3 * NAME_CHARACTERS)
        raise BadCheckpoint(f"{what} {error.detail}, at {where}.") from error
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{what} is not valid JSON: {fault_of(error)}.") from error
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{what} is not a JSON object.")
    if _deeper_than(value, MAX_DEPTH):
        raise BadCheckpoint(f"{what} has more than {MAX_DEPTH} objects and lists within each other.")
    return value


def quoted(name: str) -> str:
    """A name out of a foreign file, made safe and short for a one-line message."""
    text = shortened(name)
    return f"'{text}'" if text.isprintable() else ascii(text)


def _deeper_than(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            item
            for held in level
            for item in (held.values() if isinstance(held, dict) else held)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True
