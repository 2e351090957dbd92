"""A checkpoint on disk: its config, its tensors by name, and one tensor read at a time.

A checkpoint is a folder with `config.json` and safetensors weights, in one file or in shards that
`model.safetensors.index.json` lists. Opening it reads the headers only, and checks everything that can be known
without the weights; so whoever holds a `Checkpoint` need not check again.

Tensors are read with `pread` into a fresh buffer and not through a memory map: mapped pages count as resident
memory of the process, so a sweep over an 8 GB model would look like 8 GB, and be killed where memory is limited.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

import torch

from secateur.contract.errors import BadCheckpoint, UnsupportedModel
from secateur.contract.models.config_limits import check_config_limits
from secateur.foreign_files.json_objects import MAX_CONFIG_BYTES, load_json_object, quoted
from secateur.foreign_files.roots import lies_under
from workers.engine.architectures.config import model_entries
from workers.engine.checkpoints.block_names import check_layer_count
from workers.engine.checkpoints.own_head import has_own_head
from workers.engine.checkpoints.safetensors_file import (
    SafetensorsHeader,
    TensorEntry,
    read_header,
    refuse_lfs_pointer,
)

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLED_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})
_PIECE = 1 << 24  # bytes of a tensor that are compared at a time
MAX_JSON_BYTES = 100_000_000  # of an index; the largest real one has a few megabytes

TORCH_DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
    "C64": torch.complex64,
}


class Checkpoint:
    """An opened checkpoint. Safe to share between threads; holds no file open."""

    def __init__(self, path: Path, config: dict[str, Any], headers: Sequence[SafetensorsHeader]) -> None:
        """Use `Checkpoint.open`, which also checks that the parts agree."""
        self.path = path
        self.headers = tuple(headers)
        self.bytes_read = 0  # bytes of weights that `read` has fetched so far
        self._lock = Lock()
        self._tensors = {entry.name: (header, entry) for header in headers for entry in header.tensors}
        # What config.json says of the model, but for what the files contradict: a head of their own is not tied.
        plain = model_entries(config)
        self.config = {**plain, "tie_word_embeddings": False} if has_own_head(self, plain) else plain

    @classmethod
    def open(cls, path: Path, *, roots: Sequence[Path] | None = None) -> Checkpoint:
        """Open the checkpoint in the folder `path`.

        Args:
            roots: where given, every file must lie under one of these folders after symlinks are followed.

        Raises:
            BadCheckpoint: the folder holds no safetensors checkpoint, or one that is broken or unsafe.
        """
        if not path.is_dir():
            raise BadCheckpoint(
                f"{path.name} is not a folder; a checkpoint is a folder with {CONFIG_FILE} and weights."
            )
        config = read_json_file(path / CONFIG_FILE, roots=roots, limit=MAX_CONFIG_BYTES)
        check_config_limits(config)
        files, listed = _weight_files(path, roots)
        headers = [read_header(path / name) for name in files]
        holders: dict[str, str] = {}
        for file, header in zip(files, headers, strict=True):
            for entry in header.tensors:
                if entry.name in holders:
                    raise BadCheckpoint(f"{file}: tensor {quoted(entry.name)} stands in {holders[entry.name]} as well.")
                holders[entry.name] = file
        for name, file in listed.items():
            if holders.get(name) != file:
                raise BadCheckpoint(
                    f"{INDEX_FILE}: tensor {quoted(name)} is not in {quoted(file)}, where it is listed."
                )
        if not holders:
            raise BadCheckpoint(f"{files[0]}: the file holds no tensors.")
        check_layer_count(holders, config)
        return cls(path, config, headers)

    def names(self) -> list[str]:
        """All tensors, file by file in the order of their bytes."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entry(name)[1].shape

    def dtype(self, name: str) -> str:
        """The dtype as safetensors spells it, such as "BF16"."""
        return self._entry(name)[1].dtype

    def nbytes(self, name: str) -> int:
        return self._entry(name)[1].nbytes

    def files(self) -> list[Path]:
        """The weight files, shards in the order of their names."""
        return [header.path for header in self.headers]

    @property
    def total_bytes(self) -> int:
        """Bytes of all tensors, headers not counted."""
        return sum(entry.nbytes for _, entry in self._tensors.values())

    def read(self, name: str) -> torch.Tensor:
        """Read one tensor into CPU memory of its own.

        Raises:
            BadCheckpoint: the file has changed or shrunk since it was opened.
            UnsupportedModel: torch has no such dtype (packed 4-bit and 6-bit floats).
        """
        header, entry = self._entry(name)
        dtype = TORCH_DTYPES.get(entry.dtype)
        if dtype is None:
            raise UnsupportedModel(
                f"{header.path.name}: tensor {quoted(name)} has dtype {entry.dtype}, which cannot be computed with."
            )
        if entry.nbytes == 0:
            return torch.empty(entry.shape, dtype=dtype)
        buffer = torch.empty(entry.nbytes, dtype=torch.uint8)
        _read_into(buffer.numpy().data, header.path, entry)
        with self._lock:
            self.bytes_read += entry.nbytes
        return buffer.view(dtype).reshape(entry.shape)

    def same_values(self, one: str, other: str) -> bool:
        """Whether two tensors hold the same numbers, whatever their dtypes; those of one dtype are read in pieces."""
        (file, entry), (other_file, other_entry) = self._entry(one), self._entry(other)
        if entry.shape != other_entry.shape:
            return False
        if entry.dtype != other_entry.dtype:
            return torch.equal(self.read(one).double(), self.read(other).double())
        for start in range(0, entry.nbytes, _PIECE):
            size = min(_PIECE, entry.nbytes - start)
            pieces = bytearray(size), bytearray(size)
            for piece, path, held in zip(pieces, (file.path, other_file.path), (entry, other_entry), strict=True):
                _read_into(memoryview(piece), path, replace(held, start=held.start + start, nbytes=size))
            if pieces[0] != pieces[1]:
                return False
        return True

    def _entry(self, name: str) -> tuple[SafetensorsHeader, TensorEntry]:
        try:
            return self._tensors[name]
        except KeyError:
            raise BadCheckpoint(f"{self.path.name}: there is no tensor {quoted(name)}.") from None


def read_json_file(path: Path, *, roots: Sequence[Path] | None = None, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON object of a checkpoint.

    Raises:
        BadCheckpoint: the file is missing, outside the roots, too large, or no JSON object.
    """
    check_inside(path, roots)
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except FileNotFoundError:
        raise BadCheckpoint(f"{path.name} is missing from the folder {path.parent.name}.") from None
    except OSError as error:
        raise BadCheckpoint(f"{path.name}: the file cannot be read: {error.strerror}.") from error
    refuse_lfs_pointer(raw, path.name)
    if len(raw) > limit:
        raise BadCheckpoint(f"{path.name}: the file is over the limit of {limit} bytes.")
    return load_json_object(raw, path.name)


def check_inside(path: Path, roots: Sequence[Path] | None) -> None:
    """Refuse a file that, with symlinks followed, lies under none of the roots."""
    if roots is None:
        return
    try:
        inside = lies_under(path, roots)
    except (OSError, RuntimeError) as error:  # a loop of symlinks
        raise BadCheckpoint(f"{path.name}: the file's symlinks cannot be followed.") from error
    if not inside:
        raise BadCheckpoint(f"{path.name} is a symlink that leaves the allowed folders.")


def _weight_files(path: Path, roots: Sequence[Path] | None) -> tuple[list[str], dict[str, str]]:
    """The weight files' names, and tensor → file where an index lists them.

    A single file wins over an index, as it does in transformers.
    """
    if (path / WEIGHTS_FILE).is_file():
        check_inside(path / WEIGHTS_FILE, roots)
        return [WEIGHTS_FILE], {}
    if not (path / INDEX_FILE).is_file():
        if any(file.suffix in PICKLED_SUFFIXES for file in path.iterdir()):
            raise BadCheckpoint(
                f"{path.name} has only pickled weights; weights must be safetensors or GGUF, so convert them first."
            )
        raise BadCheckpoint(f"{path.name} has neither {WEIGHTS_FILE} nor {INDEX_FILE}.")
    listed = read_index(path / INDEX_FILE, roots=roots)
    files = sorted(set(listed.values()))
    for file in files:
        check_inside(path / file, roots)
        if not (path / file).is_file():
            raise BadCheckpoint(f"{INDEX_FILE} lists the shard {quoted(file)}, which is missing.")
    return files, listed


def read_index(path: Path, *, roots: Sequence[Path] | None = None) -> dict[str, str]:
    """Tensor → file, as the index at `path` lists them; each a name that may stand in the folder.

    Raises:
        BadCheckpoint: as `read_json_file`, or there is no list, or a name that leaves the folder.
    """
    listed = read_json_file(path, roots=roots).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise BadCheckpoint(f"{INDEX_FILE} has no weight_map from tensors to files.")
    for name, file in listed.items():
        if not isinstance(file, str) or not _is_plain_name(file):
            raise BadCheckpoint(
                f"{INDEX_FILE}: tensor {quoted(name)} is listed in {quoted(str(file))}, "
                "which is not the name of a safetensors file in this folder."
            )
    return listed


def _is_plain_name(file: str) -> bool:
    return (
        file.endswith(".safetensors") and file.isprintable() and "\\" not in file and PurePosixPath(file).name == file
    )


def _read_into(view: memoryview, path: Path, entry: TensorEntry) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            done = 0
            while done < entry.nbytes:
                got = os.preadv(descriptor, [view[done : done + (1 << 30)]], entry.start + done)
                if got == 0:
                    raise BadCheckpoint(f"{path.name}: the file ends inside tensor {quoted(entry.name)}.")
                done += got
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadCheckpoint(f"{path.name}: tensor {quoted(entry.name)} cannot be read: {error.strerror}.") from error
