"""The safetensors header, read and written without the library, and checked before anything trusts it.

A safetensors file is eight bytes of little-endian header length, a JSON object (tensor name → dtype, shape and
byte range relative to the end of the header), and the tensors' bytes, back to back. Depth pruning rewrites this
header and copies byte ranges, and streaming reads single tensors, so both need the offsets, which the
`safetensors` library keeps to itself.

Every rule of the format is checked, because the file may come from anyone: the header's size, its JSON, each
dtype and shape against its byte range, and that the ranges cover the data without overlap, gap or overhang. What
breaks a rule is a `BadCheckpoint` that names the file and the tensor.

Format: https://huggingface.co/docs/safetensors (the header limit of 100 MB is the library's own).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.contract.errors import BadCheckpoint
from secateur.foreign_files.json_objects import load_json_object, quoted
from secateur.foreign_files.lfs_pointers import LFS_EXPECTED, is_lfs_pointer, lfs_detail

MAX_HEADER_BYTES = 100_000_000
MAX_DIMENSIONS = 64  # of a tensor, as in torch
LENGTH_BYTES = 8  # the header's own length, u64 little-endian, comes first
ALIGNMENT = 8  # writers pad the header with spaces so that the data starts aligned
PAGE = 4096  # of memory

# Bits per element of every dtype that the format knows.
DTYPE_BITS: Mapping[str, int] = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a file: what it is, and where its bytes lie."""

    name: str
    dtype: str  # as the header spells it, such as "BF16"
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file
    nbytes: int

    @property
    def end(self) -> int:
        return self.start + self.nbytes


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """A checked header: its tensors in the order of their bytes, and the writer's free-form metadata."""

    path: Path
    tensors: tuple[TensorEntry, ...]
    metadata: dict[str, str]
    data_start: int
    file_bytes: int


def read_header(path: Path) -> SafetensorsHeader:
    """Read and check the header of one file.

    Raises:
        BadCheckpoint: the file cannot be read, is cut short, or breaks a rule of the format.
    """
    try:
        with path.open("rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            length_field = file.read(LENGTH_BYTES)
            refuse_lfs_pointer(length_field + file.peek(), path.name)
            if len(length_field) < LENGTH_BYTES:
                raise BadCheckpoint(f"{path.name}: the file is truncated: it has no complete safetensors header.")
            header_bytes = int.from_bytes(length_field, "little")
            if header_bytes > MAX_HEADER_BYTES:
                raise BadCheckpoint(
                    f"{path.name}: the header claims {header_bytes} bytes, over the limit of {MAX_HEADER_BYTES}; "
                    "this is not a safetensors file, or a hostile one."
                )
            if LENGTH_BYTES + header_bytes > file_bytes:
                raise BadCheckpoint(
                    f"{path.name}: the file is truncated: its header needs {header_bytes} bytes, "
                    f"and the file ends after {file_bytes}."
                )
            raw = file.read(header_bytes)
    except OSError as error:
        raise BadCheckpoint(f"{path.name}: the file cannot be read: {error.strerror}.") from error
    if len(raw) < header_bytes:
        raise BadCheckpoint(f"{path.name}: the file is truncated inside its header.")
    fields = load_json_object(raw, f"{path.name}: the header")
    metadata = _metadata(fields.pop("__metadata__", None), path)
    data_start = LENGTH_BYTES + header_bytes
    entries = [_entry(name, value, path, data_start, file_bytes) for name, value in fields.items()]
    entries.sort(key=lambda entry: (entry.start, entry.end))
    _check_cover(entries, path, data_start, file_bytes)
    return SafetensorsHeader(path, tuple(entries), metadata, data_start, file_bytes)


def refuse_lfs_pointer(head: bytes, name: str) -> None:
    """Raise BadCheckpoint where the file that begins with `head` was cloned without git-lfs."""
    if is_lfs_pointer(head):
        raise BadCheckpoint.field("model", lfs_detail(name) + ".", value=name, expected=LFS_EXPECTED)


def encode_header(tensors: Iterable[TensorEntry], metadata: Mapping[str, str], *, start: int | None = None) -> bytes:
    """The length field and header of a file that holds `tensors` back to back, in this order.

    Only names, dtypes, shapes and sizes are used; where the bytes lay before does not matter.

    Args:
        start: where in a page of `PAGE` bytes the data is to begin; a multiple of 8. By default as early as it can.
    """
    fields: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for tensor in tensors:
        fields[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    raw = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    if start is None:
        raw += b" " * (-len(raw) % ALIGNMENT)
    else:
        raw += b" " * ((start - LENGTH_BYTES - len(raw)) % PAGE)
    return len(raw).to_bytes(LENGTH_BYTES, "little") + raw


def _metadata(value: object, path: Path) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return dict(value)
    raise BadCheckpoint(f"{path.name}: the header's __metadata__ is not an object of strings.")


def _entry(name: str, value: object, path: Path, data_start: int, file_bytes: int) -> TensorEntry:
    where = f"{path.name}: tensor {quoted(name)}"
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise BadCheckpoint(f"{where} is not described by exactly dtype, shape and data_offsets.")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise BadCheckpoint(f"{where} has the unknown dtype {quoted(str(dtype))}.")
    if not _is_naturals(shape):
        raise BadCheckpoint(f"{where} has a shape that is not a list of whole numbers.")
    if len(shape) > MAX_DIMENSIONS:
        raise BadCheckpoint(f"{where} has {len(shape):,} dimensions; at most {MAX_DIMENSIONS} are read.")
    if not _is_naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise BadCheckpoint(f"{where} has data_offsets that are not a range of bytes.")
    start, end = data_start + offsets[0], data_start + offsets[1]
    if end > file_bytes:
        raise BadCheckpoint(
            f"{where} ends at byte {end}, and the file has {file_bytes}: it is truncated or its header lies."
        )
    bits = DTYPE_BITS[dtype]
    for size in shape:
        bits *= size
        if bits > 8 * file_bytes and 0 not in shape:
            break  # far too large already; do not multiply on with a hostile shape
    if bits != 8 * (end - start):
        raise BadCheckpoint(f"{where} has {end - start} bytes, which its dtype {dtype} and shape do not give.")
    return TensorEntry(name, dtype, tuple(shape), start, end - start)


def _is_naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _check_cover(entries: list[TensorEntry], path: Path, data_start: int, file_bytes: int) -> None:
    """The tensors' bytes must follow each other from the header to the end of the file."""
    position = data_start
    for entry in entries:
        if entry.start < position:
            raise BadCheckpoint(f"{path.name}: tensor {quoted(entry.name)} overlaps the tensor before it.")
        if entry.start > position:
            raise BadCheckpoint(
                f"{path.name}: {entry.start - position} bytes before tensor {quoted(entry.name)} belong to no tensor."
            )
        position = entry.end
    if position != file_bytes:
        raise BadCheckpoint(f"{path.name}: {file_bytes - position} bytes at the end belong to no tensor.")
