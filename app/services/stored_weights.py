"""How many bytes the tensors of a local checkpoint take, block by block: the heads of its files, and no weights.

Sizes are what an estimate rests on, so a head that cannot be read gives none, and the stage, which reads them with
care, says why (`workers/engine/checkpoints/safetensors_file.py`).
"""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

from secateur.contract.estimates.model import Stored, stored_bytes

MAX_HEAD_BYTES = 32 << 20  # of one file; those of the largest checkpoints are some megabytes
MAX_FILES = 2000
INDEX = "model.safetensors.index.json"
_BLOCK = re.compile(r"^(?:[^.]+\.)*?(\d{1,6})\.")  # the first number in a tensor's name is its block's


def stored_in(folder: Path, blocks: int) -> Stored | None:
    """Bytes of the tensors of a checkpoint with so many blocks; None where the heads of its files do not tell."""
    try:
        tensors = [tensor for file in _files(folder) for tensor in _tensors(file)]
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    return stored_bytes(tensors, blocks) if tensors else None


def _files(folder: Path) -> list[Path]:
    """The files that hold the weights: by the index where there is one."""
    index = folder / INDEX
    if (folder / "model.safetensors").is_file() or not index.is_file():
        single = folder / "model.safetensors"
        return [single] if single.is_file() else sorted(folder.glob("*.safetensors"))[:MAX_FILES]
    if index.stat().st_size > MAX_HEAD_BYTES:
        return []
    names = set(json.loads(index.read_bytes())["weight_map"].values())
    return [folder / Path(name).name for name in sorted(names)[:MAX_FILES]]


def _tensors(file: Path) -> list[tuple[int | None, int]]:
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        if length > min(MAX_HEAD_BYTES, file.stat().st_size):
            return []
        head: dict[str, Any] = json.loads(opened.read(length))
    found: list[tuple[int | None, int]] = []
    for name, entry in head.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            match = _BLOCK.match(name)
            found.append((int(match[1]) if match else None, int(end) - int(start)))
    return found
