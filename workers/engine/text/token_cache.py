"""What was tokenised is kept on this machine, under a hash of all that it was made of: text, tokenizer and options.

Two forms: token ids in the order of the text, in a file that is mapped into memory and may be longer than it; and named
tensors, for samples with labels. Both carry a checksum: a file that is cut short or damaged is made anew. Beside them
stand numbers, of how much of a text there was time for. A file
appears under its name when it is whole, and those that were not used for longest go when there are too many bytes.
Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from secateur.whole_files import whole_file

TokenIds = np.ndarray[tuple[int], np.dtype[np.int32]]

VERSION = 2  # of the tokenising and packing; part of every key
MOST_BYTES = 16 * 2**30  # of all files together; the one just made may be larger
_STALE_SECONDS = 24 * 3600.0  # a partial file that nobody has written to for so long is a killed process's
_CHUNK = 1 << 24
_DIGEST = hashlib.sha256().digest_size
# the files that decide what a tokenizer does, chat templates included
_TOKENIZER_FILES = ("*token*.json", "*.model", "*.tiktoken", "vocab.*", "merges.txt", "*.jinja", "special_*.json")


def tokenizer_fingerprint(checkpoint: Path) -> str:
    """A hash over the tokenizer's files, and the libraries that read them."""
    import tokenizers
    import transformers

    digest = hashlib.sha256(f"{transformers.__version__} {tokenizers.__version__}".encode())
    files = {file for pattern in _TOKENIZER_FILES for file in checkpoint.glob(pattern) if file.is_file()}
    for file in sorted(files):
        digest.update(f"\0{file.name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def kept_ids(cache: Path, key: Mapping[str, Any], make: Callable[[], Iterator[TokenIds]]) -> TokenIds:
    """The ids under `key`; made piece by piece, and written as they come, where they are not there.

    Returns:
        (tokens,) int32, mapped: what is not looked at takes no memory. What is written to it stays in this process.
    """
    file = _place(cache, key, ".ids")
    found = _mapped(file)
    if found is not None:
        return found
    with whole_file(file, shared=True) as temporary, temporary.open("wb") as sink:
        digest = hashlib.sha256()
        for piece in make():
            raw = np.ascontiguousarray(piece, dtype="<i4").tobytes()
            digest.update(raw)
            sink.write(raw)
        sink.write(digest.digest())
    _make_room(file)
    found = _mapped(file)
    assert found is not None, "it was written just now"
    return found


def kept_tensors(cache: Path, key: Mapping[str, Any], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors under `key`; made where they are not there."""
    file = _place(cache, key, ".safetensors")
    found = _loaded(file)
    if found is None:
        found = {name: tensor.contiguous() for name, tensor in make().items()}
        with whole_file(file, shared=True) as temporary:
            save_file(found, temporary, metadata={"sha256": _digest_of(found)})
        _make_room(file)
    return found


def find_count(cache: Path, key: Mapping[str, Any]) -> int | None:
    """The number under `key`, if it is there."""
    try:
        return int(_place(cache, key, ".count").read_bytes())
    except (OSError, ValueError):
        return None


def keep_count(cache: Path, key: Mapping[str, Any], count: int) -> None:
    """Put a number under `key`."""
    file = _place(cache, key, ".count")
    with whole_file(file, shared=True) as temporary:
        temporary.write_text(str(count))
    _make_room(file)


def _place(cache: Path, key: Mapping[str, Any], suffix: str) -> Path:
    text = json.dumps({"version": VERSION, **key}, sort_keys=True)
    return cache / "tokens" / (hashlib.sha256(text.encode()).hexdigest() + suffix)


def _mapped(file: Path) -> TokenIds | None:
    try:
        size = file.stat().st_size - _DIGEST
        if size < 0 or size % 4:
            return None
        digest = hashlib.sha256()
        with file.open("rb") as source:
            left = size
            while left and (chunk := source.read(min(left, _CHUNK))):
                digest.update(chunk)
                left -= len(chunk)
            if source.read(_DIGEST + 1) != digest.digest():
                return None
        os.utime(file)
        if size == 0:
            return np.zeros(0, dtype=np.int32)
        return np.memmap(file, dtype="<i4", mode="c", shape=(size // 4,))
    except OSError:  # absent, or gone since it was looked for
        return None


def _loaded(file: Path) -> dict[str, Tensor] | None:
    try:
        with safe_open(file, framework="pt") as source:
            found = {name: source.get_tensor(name) for name in source.keys()}  # noqa: SIM118 - not a mapping
            expected = (source.metadata() or {}).get("sha256")
        if expected != _digest_of(found):
            return None
        os.utime(file)
    except (OSError, SafetensorError):
        return None
    return found


def _digest_of(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def _make_room(newest: Path) -> None:
    """Delete what was not used for longest, down to MOST_BYTES; files that are mapped stay readable."""
    now, used = time.time(), []
    for file in newest.parent.iterdir():
        try:
            stat = file.stat()
        except FileNotFoundError:
            continue
        if file.suffix == ".part":
            if now - stat.st_mtime > _STALE_SECONDS:
                file.unlink(missing_ok=True)
        elif file != newest:
            used.append((stat.st_mtime, stat.st_size, file))
    total = newest.stat().st_size + sum(size for _, size, _ in used)
    for _, size, file in sorted(used):
        if total <= MOST_BYTES:
            return
        file.unlink(missing_ok=True)
        total -= size
