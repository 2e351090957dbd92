"""A GGUF file of planned tensors, some rows in memory at a time.

A tensor is rounded, or copied as it lies in another file whose values are the same: what nobody changed is not rounded
a second time.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from gguf.quants import dequantize
from torch import Tensor

from secateur.contract.errors import StageFailed
from workers.engine.checkpoints.copy_range import copy_range
from workers.engine.checkpoints.gguf_file import (
    BLOCK_SIZES,
    DEFAULT_ALIGNMENT,
    MAGIC,
    GgufTensor,
    encode_tensors,
    padding,
    read_gguf_header,
)
from workers.engine.checkpoints.new_folder import new_folder
from workers.engine.progress import Progress
from workers.engine.quantise.gguf_tensors import Weight
from workers.engine.quantise.gguf_types import TENSOR_TYPES, Kind
from workers.engine.quantise.outcome import Outcome

_AT_A_TIME = 1 << 24  # weights


@dataclass(frozen=True)
class Copied:
    """Bytes of another file that hold a tensor's values already."""

    file: Path
    tensor: GgufTensor


@dataclass(frozen=True)
class Planned:
    """A tensor of the new file, and the type that it gets."""

    weight: Weight
    type_name: str
    copied: Copied | None = None

    @property
    def tensor(self) -> GgufTensor:
        kind, shape = int(Kind[self.type_name]), self.weight.place.shape
        elements, size = BLOCK_SIZES[kind]
        columns_first = tuple(reversed(shape))
        return GgufTensor(self.weight.name, columns_first, kind, 0, math.prod(shape) // elements * size)


def rows_of(values: Tensor) -> list[Tensor]:
    """The tensor's rows, some at a time: (rows, columns) each."""
    columns = values.shape[-1]
    rows, step = values.reshape(-1, columns), max(1, _AT_A_TIME // columns)
    return [rows[start : start + step] for start in range(0, len(rows), step)]


def write_gguf(target: Path, keys: Sequence[bytes], plan: Sequence[Planned], *, progress: Progress) -> Outcome:
    """Write the file as the only one of the new folder of `target`.

    The folder appears under its name only when the file is complete and its head can be read.

    Args:
        keys: encoded.
        progress: counts tensors.

    Raises:
        StageFailed: the disk is full, or the folder exists.
    """
    tensors = [planned.tensor for planned in plan]
    head = MAGIC + struct.pack("<IQQ", 3, len(plan), len(keys)) + b"".join(keys)
    head += encode_tensors(tensors, DEFAULT_ALIGNMENT)
    stored = quantised = other = 0
    error = weight = 0.0
    with new_folder(target.parent) as folder:
        with (folder / target.name).open("wb", buffering=0) as file:
            _write(file, head + bytes(padding(len(head), DEFAULT_ALIGNMENT)))
            for done, (planned, tensor) in enumerate(zip(plan, tensors, strict=True), start=1):
                errors = _copied(planned, file) if planned.copied else _rounded(planned, file)
                _write(file, bytes(padding(tensor.nbytes, DEFAULT_ALIGNMENT)))
                size = math.prod(tensor.shape)
                if planned.type_name == "F32":
                    other += size
                else:
                    stored, quantised = stored + tensor.nbytes, quantised + size
                    error, weight = error + errors[0], weight + errors[1]
                progress(done, len(plan), "tensors")
        read_gguf_header(folder / target.name)
    return Outcome(
        bytes=sum(tensor.nbytes for tensor in tensors),
        quantised_parameters=quantised,
        other_parameters=other,
        bits_per_weight=8 * stored / quantised if quantised else 0.0,
        relative_error=math.sqrt(error / weight) if weight else 0.0,
    )


def _rounded(planned: Planned, file: BinaryIO) -> tuple[float, float]:
    """Write a tensor rounded to its type; squares of the errors and of the weights."""
    error = weight = 0.0
    written = 0
    kind = Kind[planned.type_name]
    for rows in rows_of(planned.weight.make()):
        raw = TENSOR_TYPES[planned.type_name](rows)
        _write(file, raw.data)
        written += raw.nbytes
        if planned.type_name != "F32":
            difference = torch.from_numpy(np.asarray(dequantize(raw, kind))).sub_(rows)
            error += float(difference.square_().sum(dtype=torch.float64))
            weight += float(rows.square().sum(dtype=torch.float64))
    if written != planned.tensor.nbytes:
        raise StageFailed(f"{planned.weight.name} takes {written} bytes, not {planned.tensor.nbytes}.")
    return error, weight


def _copied(planned: Planned, file: BinaryIO) -> tuple[float, float]:
    """Write a tensor as it lies in the other file: nothing is lost."""
    assert planned.copied is not None
    tensor = planned.copied.tensor
    with planned.copied.file.open("rb") as source:
        copy_range(source.fileno(), file.fileno(), tensor.start, tensor.nbytes, copied=lambda _: None)
    return 0.0, 0.0


def _write(file: BinaryIO, raw: Any) -> None:
    """All of it: a raw file may take less at a time."""
    left = memoryview(raw).cast("B")
    while left:
        left = left[file.write(left) :]
