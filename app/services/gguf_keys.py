"""The key-value pairs of a GGUF file, as far as a submission and an estimate need them.

Whole numbers and short strings are kept; long strings and arrays, such as templates and vocabularies, are passed over.
The stage reads and checks the whole head. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

MAX_KEYS = 4096
MAX_TEXT_BYTES = 1 << 20
MAX_ENTRIES = 1 << 20  # strings of all arrays together: more than any vocabulary has
MAX_ARRAY_BYTES = 1 << 40  # far above any file; a seek takes no more than 64 bits
_WHOLE = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 10: "Q", 11: "q"}  # value type → struct code
_SIZES = {6: 4, 7: 1, 12: 8} | {kind: struct.calcsize("<" + code) for kind, code in _WHOLE.items()}
_STRING, _ARRAY = 8, 9
_NAMES = 100  # characters of a name that is looked at; templates and licences are passed over

Keys = dict[str, str | int]


def keys_of_head(head: bytes) -> Keys:
    """The pairs in the first bytes of a file, as far as they reach."""
    found: Keys = {}
    try:
        for key, value in _pairs(BytesIO(head)):
            if value is not None:
                found[key] = value
    except (struct.error, KeyError, EOFError):
        pass
    return found


def read_keys(file: BinaryIO) -> Keys:
    """All pairs of an open file, which stands at its table of tensors afterwards.

    Raises:
        EOFError, struct.error, KeyError: it is cut short, or no GGUF file that is known.
    """
    return {key: value for key, value in _pairs(file) if value is not None}


def read_text(file: BinaryIO) -> str:
    """A string as the format has it."""
    return _string(file).decode("utf-8", "replace")


def _pairs(file: BinaryIO) -> Iterator[tuple[str, str | int | None]]:
    """Each key with its value; None for what is passed over."""
    _, version, _, count = struct.unpack("<4sIQQ", file.read(24))
    if version not in (2, 3):
        raise EOFError
    entries = _Budget(MAX_ENTRIES)
    for _ in range(min(count, MAX_KEYS)):
        key = read_text(file)
        (kind,) = struct.unpack("<I", file.read(4))
        value: str | int | None = None
        if kind in _WHOLE:
            (value,) = struct.unpack("<" + _WHOLE[kind], file.read(_SIZES[kind]))
        elif kind == _STRING:
            text = _string(file)
            value = text.decode("utf-8", "replace") if len(text) <= _NAMES else None
        else:
            _skip(file, kind, entries, depth=0)
        yield key, value


class _Budget:
    """How many entries of arrays are still walked over."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise EOFError


def _string(file: BinaryIO) -> bytes:
    (length,) = struct.unpack("<Q", file.read(8))
    text = file.read(min(length, MAX_TEXT_BYTES))
    if len(text) < length:
        raise EOFError
    return text


def _skip(file: BinaryIO, kind: int, entries: _Budget, *, depth: int) -> None:
    if kind == _STRING:
        _string(file)
    elif kind != _ARRAY:
        file.seek(_SIZES[kind], 1)
    else:
        element, count = struct.unpack("<IQ", file.read(12))
        if depth > 2:
            raise EOFError
        if element in _SIZES:
            if _SIZES[element] * count > MAX_ARRAY_BYTES:
                raise EOFError
            file.seek(_SIZES[element] * count, 1)
            return
        entries.take(count)
        for _ in range(count) if element != _STRING else ():
            _skip(file, element, entries, depth=depth + 1)
        if element == _STRING:  # a vocabulary has hundreds of thousands
            _skip_strings(file, count)


def _skip_strings(file: BinaryIO, count: int) -> None:
    read, size = file.read, struct.Struct("<Q")
    for _ in range(count):
        (length,) = size.unpack(read(8))
        if length > MAX_TEXT_BYTES or len(read(length)) < length:
            raise EOFError
