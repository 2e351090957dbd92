"""The head of a GGUF file, read and written without the `gguf` package, and checked before anything trusts it.

A GGUF file is a magic and version, counted key-value pairs, a counted table of tensors, padding, and the tensors'
bytes, each aligned. Depth pruning edits a few values and copies byte ranges. The package's reader maps the
file, believes every count in it and takes seconds for a vocabulary, so a file that may come from anyone is read here
first: each count is held against the bytes that are left, each tensor's range against the file, and the ranges
against each other. What breaks a rule is a `BadCheckpoint` that names the file and the key or tensor.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from secateur.contract.errors import BadCheckpoint
from secateur.foreign_files.json_objects import quoted

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
MAX_STRING_BYTES = 1 << 24  # chat templates and licences are some kilobytes
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 20
MAX_NESTING = 4
MAX_LIST = 1 << 16  # longer arrays (vocabularies) are walked over, not turned into lists

STRING, ARRAY = 8, 9
# Value type → struct code of the fixed-size ones.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

# Tensor type → (elements per quantisation block, bytes per block).
BLOCK_SIZES: dict[int, tuple[int, int]] = {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()}


@dataclass(frozen=True, slots=True)
class GgufValue:
    """One key-value pair. Long arrays have no `value`, only their bytes in the file."""

    key: str
    kind: int  # value type, such as 4 for a 32-bit unsigned number
    value: Any  # number, bool, string, list of numbers, or None for an array of anything else or over MAX_LIST
    start: int  # of the whole pair, key included
    end: int
    element: int | None = None  # value type of an array's elements
    count: int | None = None  # number of an array's elements


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor: its type and shape as GGML orders them (fastest-moving dimension first), and its bytes."""

    name: str
    shape: tuple[int, ...]
    kind: int  # GGML type, such as 3 for Q4_1
    start: int  # bytes from the beginning of the file
    nbytes: int

    @property
    def end(self) -> int:
        return self.start + self.nbytes

    @property
    def type_name(self) -> str:
        return GGMLQuantizationType(self.kind).name


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A checked head: values by key and tensors in the order of their bytes."""

    path: Path
    version: int
    values: Mapping[str, GgufValue]
    tensors: tuple[GgufTensor, ...]
    alignment: int
    data_start: int
    file_bytes: int

    @property
    def architecture(self) -> str:
        """The family as llama.cpp names it, such as "llama"; it prefixes the model's own keys.

        Raises:
            BadCheckpoint: the file names none.
        """
        found = self.values.get("general.architecture")
        if found is None or not isinstance(found.value, str) or not found.value:
            raise BadCheckpoint(f"{self.path.name}: the key 'general.architecture' is missing or no string.")
        return found.value

    @property
    def main_type(self) -> str:
        """The type that most bytes of the blocks' matrices have; embedding and head are often finer."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors:
            if len(tensor.shape) > 1 and tensor.name.startswith("blk."):
                sizes[tensor.type_name] += tensor.nbytes
        return sizes.most_common(1)[0][0] if sizes else "F32"

    def number(self, key: str) -> int | None:
        """The whole number under `{architecture}.{key}`, or None."""
        found = self.values.get(f"{self.architecture}.{key}")
        return found.value if found is not None and type(found.value) is int else None


def read_gguf_header(path: Path) -> GgufHeader:
    """Read and check the head of one file.

    Raises:
        BadCheckpoint: the file cannot be read, is cut short, or breaks a rule of the format.
    """
    try:
        with path.open("rb", buffering=1 << 20) as file:
            return _Reader(path, file, os.fstat(file.fileno()).st_size).header()
    except OSError as error:
        raise BadCheckpoint(f"{path.name}: the file cannot be read: {error.strerror}.") from error


def read_list(header: GgufHeader, key: str) -> list[Any]:
    """All elements of the array under `key`, however long: numbers, or strings.

    Raises:
        BadCheckpoint: there is no such array, or one of other elements.
    """
    found = header.values.get(key)
    name = header.path.name
    if found is None or found.kind != ARRAY:
        raise BadCheckpoint(f"{name}: the key {quoted(key)} is missing or no array.")
    if isinstance(found.value, list):
        return list(found.value)
    with header.path.open("rb") as file:
        file.seek(found.start)
        raw = file.read(found.end - found.start)
    at = 8 + len(found.key.encode()) + 4 + 12  # the key, its type, and the array's own head
    if found.element in SCALARS:
        return list(struct.unpack_from(f"<{found.count}{SCALARS[found.element]}", raw, at))
    if found.element != STRING:
        raise BadCheckpoint(f"{name}: the key {quoted(key)} is an array of neither numbers nor strings.")
    strings = []
    for _ in range(found.count or 0):
        (length,) = struct.unpack_from("<Q", raw, at)
        strings.append(raw[at + 8 : at + 8 + length])
        at += 8 + length
    try:
        return [string.decode("utf-8") for string in strings]
    except UnicodeDecodeError:
        raise BadCheckpoint(f"{name}: the key {quoted(key)} has an element that is not UTF-8.") from None


def encode_string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def encode_value(key: str, kind: int, value: Any, *, element: int | None = None) -> bytes:
    """One key-value pair: a number, a string, or a list of strings or of numbers of value type `element`."""
    head = encode_string(key) + struct.pack("<I", kind)
    if kind == STRING:
        return head + encode_string(value)
    if kind == ARRAY and element == STRING:
        return head + struct.pack("<IQ", element, len(value)) + b"".join(map(encode_string, value))
    if kind == ARRAY:
        if element is None or element not in SCALARS:
            raise ValueError(f"arrays of value type {element} are copied, not encoded")
        return head + struct.pack("<IQ", element, len(value)) + struct.pack(f"<{len(value)}{SCALARS[element]}", *value)
    return head + struct.pack("<" + SCALARS[kind], value)


def encode_tensors(tensors: Iterable[GgufTensor], alignment: int) -> bytes:
    """The table of `tensors`, whose bytes will lie one after the other, each padded to `alignment`."""
    parts = []
    offset = 0
    for tensor in tensors:
        parts.append(encode_string(tensor.name))
        parts.append(struct.pack(f"<I{len(tensor.shape)}QIQ", len(tensor.shape), *tensor.shape, tensor.kind, offset))
        offset += tensor.nbytes + padding(tensor.nbytes, alignment)
    return b"".join(parts)


def padding(size: int, alignment: int) -> int:
    """Bytes that take `size` to the next multiple of `alignment`."""
    return -size % alignment


class _Reader:
    """Walks the head once. Every count is checked against the bytes left before it is believed."""

    def __init__(self, path: Path, file: BinaryIO, file_bytes: int) -> None:
        self.path = path
        self.file = file
        self.file_bytes = file_bytes
        self.position = 0

    def header(self) -> GgufHeader:
        if self.take(4, "the magic") != MAGIC:
            raise self.bad("the file does not begin with the GGUF magic, so it is no GGUF file")
        version = self.number("I", "the version")
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            what = "big-endian" if swapped in VERSIONS else f"of version {version}"
            raise self.bad(f"the file is {what}; versions 2 and 3, little-endian, are read")
        tensor_count = self.count("tensors", least_bytes=24, most=MAX_TENSORS)
        values: dict[str, GgufValue] = {}
        for _ in range(self.count("keys", least_bytes=13, most=MAX_KEYS)):
            value = self.value()
            if value.key in values:
                raise self.bad(f"the key {quoted(value.key)} stands twice")
            values[value.key] = value
        alignment = self.alignment(values)
        table = [self.tensor(alignment) for _ in range(tensor_count)]
        data_start = self.position + padding(self.position, alignment)
        tensors = self.placed(table, data_start, alignment)
        return GgufHeader(self.path, version, values, tensors, alignment, data_start, self.file_bytes)

    def value(self) -> GgufValue:
        start = self.position
        key = self.string("a key")
        kind = self.number("I", f"the type of {quoted(key)}")
        if kind in SCALARS:
            value: Any = self.number(SCALARS[kind], quoted(key))
            return GgufValue(key, kind, value, start, self.position)
        if kind == STRING:
            text = self.string(quoted(key))
            return GgufValue(key, kind, text, start, self.position)
        if kind == ARRAY:
            element, count, items = self.array(quoted(key), depth=1)
            return GgufValue(key, kind, items, start, self.position, element, count)
        raise self.bad(f"the key {quoted(key)} has the unknown value type {kind}")

    def array(self, what: str, *, depth: int) -> tuple[int, int, list[Any] | None]:
        element = self.number("I", f"the element type of {what}")
        if element in SCALARS:
            size = struct.calcsize("<" + SCALARS[element])
            count = self.count(f"elements of {what}", least_bytes=size)
            if count > MAX_LIST:
                self.skip(count * size, what)
                return element, count, None
            return element, count, list(struct.unpack(f"<{count}{SCALARS[element]}", self.take(count * size, what)))
        if element == STRING:
            count = self.count(f"elements of {what}", least_bytes=8)
            for _ in range(count):
                self.skip(self.string_length(what), what)
            return element, count, None
        if element == ARRAY and depth < MAX_NESTING:
            count = self.count(f"elements of {what}", least_bytes=12)
            for _ in range(count):
                self.array(what, depth=depth + 1)
            return element, count, None
        raise self.bad(f"{what} has elements of the unknown type {element} or is nested too deeply")

    def alignment(self, values: Mapping[str, GgufValue]) -> int:
        found = values.get("general.alignment")
        if found is None:
            return DEFAULT_ALIGNMENT
        size = found.value
        if type(size) is not int or not 1 <= size <= 1 << 20 or size & (size - 1):
            raise self.bad(f"general.alignment is {quoted(str(size))}, and a power of two is expected")
        return size

    def tensor(self, alignment: int) -> GgufTensor:
        """A row of the table; `start` is still relative to the data."""
        name = self.string("a tensor's name")
        where = f"tensor {quoted(name)}"
        dimensions = self.number("I", where)
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise self.bad(f"{where} has {dimensions} dimensions, and 1 to {MAX_DIMENSIONS} are expected")
        shape = tuple(self.number("Q", where) for _ in range(dimensions))
        kind, offset = self.number("I", where), self.number("Q", where)
        if kind not in BLOCK_SIZES:
            raise self.bad(f"{where} has the unknown type {kind}")
        if offset % alignment:
            raise self.bad(f"{where} begins at {offset}, which is not a multiple of the alignment {alignment}")
        elements, block_bytes = BLOCK_SIZES[kind]
        if shape[0] % elements:
            raise self.bad(f"{where} has rows of {shape[0]}, which is no multiple of its blocks of {elements}")
        size = block_bytes * (shape[0] // elements)
        for extent in shape[1:]:
            size *= extent
        if size == 0:
            raise self.bad(f"{where} is empty")
        if size > self.file_bytes:
            raise self.bad(f"{where} needs {size} bytes, and the file has {self.file_bytes}: it is truncated or lies")
        return GgufTensor(name, shape, kind, offset, size)

    def placed(self, table: list[GgufTensor], data_start: int, alignment: int) -> tuple[GgufTensor, ...]:
        """The table in the order of its bytes, with absolute starts; they follow each other, padded."""
        names: set[str] = set()
        result = []
        position = 0
        for tensor in sorted(table, key=lambda row: (row.start, row.nbytes)):
            where = f"tensor {quoted(tensor.name)}"
            if tensor.name in names:
                raise self.bad(f"{where} stands twice")
            names.add(tensor.name)
            if tensor.start < position:
                raise self.bad(f"{where} overlaps the tensor before it")
            if tensor.start > position:
                raise self.bad(f"{tensor.start - position} bytes before {where} belong to no tensor")
            if data_start + tensor.end > self.file_bytes:
                raise self.bad(
                    f"{where} ends at byte {data_start + tensor.end}, and the file has {self.file_bytes}: "
                    "it is truncated or its table lies"
                )
            result.append(GgufTensor(tensor.name, tensor.shape, tensor.kind, data_start + tensor.start, tensor.nbytes))
            position = tensor.end + padding(tensor.nbytes, alignment)
        if result and self.file_bytes > data_start + position:
            raise self.bad(f"{self.file_bytes - data_start - position} bytes at the end belong to no tensor")
        return tuple(result)

    def take(self, size: int, what: str) -> bytes:
        if size > self.file_bytes - self.position:
            raise self.bad(f"the file is truncated: it ends inside {what}")
        raw = self.file.read(size)
        if len(raw) < size:
            raise self.bad(f"the file is truncated: it ends inside {what}")
        self.position += size
        return raw

    def skip(self, size: int, what: str) -> None:
        if size > self.file_bytes - self.position:
            raise self.bad(f"the file is truncated: it ends inside {what}")
        if size <= 4096:
            self.take(size, what)  # cheaper than a seek, which gives up the buffer
        else:
            self.position += size
            self.file.seek(self.position)

    def number(self, code: str, what: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code), what))[0]

    def count(self, what: str, *, least_bytes: int, most: int | None = None) -> int:
        """A count of things that take at least `least_bytes` each."""
        count = int(self.number("Q", f"the number of {what}"))
        left = self.file_bytes - self.position
        if count * least_bytes > left or (most is not None and count > most):
            raise self.bad(f"the file claims {count} {what}, and has {left} bytes left")
        return count

    def string_length(self, what: str) -> int:
        length = int(self.number("Q", what))
        if length > MAX_STRING_BYTES:
            raise self.bad(f"{what} claims a string of {length} bytes, over the limit of {MAX_STRING_BYTES}")
        return length

    def string(self, what: str) -> str:
        raw = self.take(self.string_length(what), what)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.bad(f"{what} is not UTF-8") from None

    def bad(self, sentence: str) -> BadCheckpoint:
        return BadCheckpoint(f"{self.path.name}: {sentence}.")
