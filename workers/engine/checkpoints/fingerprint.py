"""What a model *is*, whatever it is called: a sha256 over its config and the bytes of its tensors.

Two jobs on the same weights share their stages' results, be the model named by a hub id, a path or a copy of it. So
neither names, nor shards, nor the order of tensors in a file count; names, dtypes, shapes and bytes of tensors do,
and what the config says. Reading a whole model takes a while, so the answer is kept in a cache folder under a key made
of each file's path, size and times, which change when the file does. Weights that are not finite are found in the same
reading, and such a checkpoint has no fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from secateur.contract.errors import BadCheckpoint
from secateur.whole_files import write_whole
from workers.engine.checkpoints.checkpoint import CONFIG_FILE, INDEX_FILE, TORCH_DTYPES, Checkpoint
from workers.engine.checkpoints.finite import count_nonfinite, nonfinite
from workers.engine.checkpoints.safetensors_file import TensorEntry
from workers.engine.progress import Progress, no_progress

_CHUNK = 1 << 24
_VERSION = 2  # of what is remembered: since 2, that the weights are finite too
# Entries of config.json that say where a model came from or who wrote it, not what it computes.
_PROVENANCE = ("_name_or_path", "_commit_hash", "transformers_version")


def fingerprint(checkpoint: Checkpoint, *, cache: Path | None = None, progress: Progress = no_progress) -> str:
    """The sha256, in hex, of a checkpoint.

    Args:
        cache: folder that remembers fingerprints; None reads the weights each time.
        progress: counts bytes; silent where the answer is remembered.

    Raises:
        BadCheckpoint: the checkpoint changes while it is read, or holds weights that are not finite.
    """
    path = checkpoint.path
    files = [path / CONFIG_FILE, *checkpoint.files()]
    if (path / INDEX_FILE).is_file():
        files.append(path / INDEX_FILE)
    return _remembered(files, cache, lambda: _of_content(checkpoint, progress))


def file_digest(path: Path, *, cache: Path | None = None, progress: Progress = no_progress) -> str:
    """The sha256 of one file's bytes, remembered in the same way."""

    def digest() -> str:
        result = hashlib.sha256()
        total = path.stat().st_size
        done = 0
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                result.update(chunk)
                done += len(chunk)
                progress(done, max(total, done), "bytes")
        return result.hexdigest()

    return _remembered([path], cache, digest)


def _of_content(checkpoint: Checkpoint, progress: Progress) -> str:
    result = hashlib.sha256()
    config = {key: value for key, value in checkpoint.config.items() if key not in _PROVENANCE}
    _update(result, json.dumps(config, sort_keys=True).encode())
    tensors = sorted(
        ((entry, header.path) for header in checkpoint.headers for entry in header.tensors),
        key=lambda pair: pair[0].name,
    )
    total = checkpoint.total_bytes
    done = 0
    for entry, file in tensors:
        _update(result, json.dumps([entry.name, entry.dtype, entry.shape]).encode())
        dtype = TORCH_DTYPES.get(entry.dtype)
        if dtype is not None and (not dtype.is_floating_point or math.prod(entry.shape) == 1):
            dtype = None  # whole numbers are finite, and a single number is a setting
        broken = 0
        for chunk in _chunks(file, entry):
            result.update(chunk)
            if dtype is not None:
                broken += count_nonfinite(torch.frombuffer(chunk, dtype=dtype))
            done += len(chunk)
            progress(done, total, "bytes")
        if broken:
            raise nonfinite(entry.name, broken)
    return result.hexdigest()


def _update(result: Any, part: bytes) -> None:
    """Add a part with its length, so that no two sequences of parts look alike."""
    result.update(len(part).to_bytes(8, "little"))
    result.update(part)


def _chunks(file: Path, entry: TensorEntry) -> Iterable[bytearray]:
    left = entry.nbytes
    with file.open("rb") as opened:
        opened.seek(entry.start)
        while left:
            chunk = bytearray(min(_CHUNK, left))  # whole numbers of every dtype fill it
            if opened.readinto(chunk) < len(chunk):
                raise BadCheckpoint(f"{file.name}: the file ends inside tensor '{entry.name}'.")
            left -= len(chunk)
            yield chunk


def _remembered(files: Sequence[Path], cache: Path | None, compute: Any) -> str:
    if cache is None:
        return str(compute())
    key = _key(files)
    answer = cache / "fingerprints" / key
    try:
        known = answer.read_text(encoding="ascii")
    except FileNotFoundError:
        known = ""
    if len(known) == 64:
        return known
    result = str(compute())
    if _key(files) != key:
        raise BadCheckpoint(f"{files[0].parent.name}: the files changed while they were read.")
    write_whole(answer, result, shared=True)
    return result


def _key(files: Iterable[Path]) -> str:
    """Changes whenever a file is replaced, rewritten or touched. The change time cannot be set back by a writer."""
    stamps = []
    for file in files:
        real = file.resolve()
        stat = real.stat()
        stamps.append([str(real), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino])
    return hashlib.sha256(json.dumps({"version": _VERSION, "files": stamps}).encode()).hexdigest()
