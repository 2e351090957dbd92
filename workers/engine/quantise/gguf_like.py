"""A checkpoint as a GGUF file of the types of the one that its model came in, tensor by tensor.

Such a file mixes types: a Q4_K_M has some matrices in Q6_K, and the embedding maybe in another. Each tensor of the new
file gets the type that it had. One whose values nobody has changed is copied to the byte, so nothing is lost by
rounding it a second time, and a type that is read and not written (the IQ family) can stay. What cannot have its type
is said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gguf.quants import dequantize

from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_file import BLOCK_SIZES, GgufHeader, GgufTensor, read_gguf_header
from workers.engine.progress import Progress, no_progress
from workers.engine.quantise.gguf_config import config_keys, supported
from workers.engine.quantise.gguf_export import tokenizer_of
from workers.engine.quantise.gguf_tensors import Weight, weights_of
from workers.engine.quantise.gguf_types import TENSOR_TYPES, Kind, fitting, substitute
from workers.engine.quantise.gguf_writing import Copied, Planned, rows_of, write_gguf
from workers.engine.quantise.outcome import Outcome

_BLOCK = re.compile(r"^blk\.(\d+)\.")
_NAMED = 3  # tensors that a note names


@dataclass(frozen=True)
class Alike:
    """What became of a file that is written in the types of another."""

    relative_error: float  # of the tensors that were rounded; 0 where the file holds the checkpoint's very values
    notes: list[str]  # how much was rounded, and which tensors have another type now, and why


def export_like(
    checkpoint: Checkpoint, target: Path, *, source: Path, kept: Sequence[int], progress: Progress = no_progress
) -> Alike:
    """Write the checkpoint as the only file of the new folder of `target`.

    Args:
        source: the GGUF file that the model came in; its tokenizer is copied too.
        kept: the numbers that the checkpoint's blocks had in it.
        progress: counts tensors.

    Raises:
        As `export_gguf`.
    """
    config = supported(checkpoint.config)
    header = read_gguf_header(source)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    plan: list[Planned] = []
    changes: dict[str, list[str]] = {}  # from what to what, and why → tensors
    for weight in weights_of(checkpoint, config):
        planned, why = _planned(weight, header, tensors.get(_old_name(weight.name, kept)))
        plan.append(planned)
        if why is not None:
            changes.setdefault(why, []).append(weight.name)
    file_type = header.values.get("general.file_type")
    number = file_type.value if file_type is not None and type(file_type.value) is int else None
    keys = [*config_keys(config, checkpoint.path.name, number), *tokenizer_of(checkpoint, config.vocab_size, source)]
    outcome = write_gguf(target, keys, plan, progress=progress)
    notes = [_rounding(plan, outcome), *(_change(why, names) for why, names in changes.items())]
    return Alike(outcome.relative_error, notes)


def _old_name(name: str, kept: Sequence[int]) -> str:
    """The tensor's name in the file that the model came in."""
    found = _BLOCK.match(name)
    return f"blk.{kept[int(found[1])]}.{name[found.end() :]}" if found else name


def _planned(weight: Weight, header: GgufHeader, old: GgufTensor | None) -> tuple[Planned, str | None]:
    """The tensor with its type, and why that is not the type that it had."""
    shape = weight.place.shape
    if old is None:
        return Planned(weight, "F32" if weight.place.is_vector else _written(header.main_type, shape[-1])), None
    if tuple(reversed(shape)) == old.shape and _holds(header, old, weight):
        return Planned(weight, old.type_name, Copied(header.path, old)), None
    found = _written(old.type_name, shape[-1])
    if found == old.type_name:
        return Planned(weight, found), None
    reason = f"does not fill rows of {shape[-1]}" if old.type_name in TENSOR_TYPES else "is read here and not written"
    return Planned(weight, found), f"{found}, since their type {old.type_name} {reason}"


def _written(type_name: str, columns: int) -> str:
    """The type, or what stands in for it in rows of this length."""
    return fitting(type_name, columns) if type_name in TENSOR_TYPES else substitute(type_name, columns)


def _holds(header: GgufHeader, old: GgufTensor, weight: Weight) -> bool:
    """Whether the file's tensor has exactly these values."""
    kind = Kind[old.type_name]
    elements, size = BLOCK_SIZES[old.kind]
    raw = np.memmap(header.path, mode="r", dtype=np.uint8, offset=old.start, shape=(old.nbytes,))
    row_bytes = old.shape[0] // elements * size
    packed, start = raw.reshape(-1, row_bytes), 0
    for rows in rows_of(weight.make()):
        part = np.ascontiguousarray(packed[start : start + len(rows)])
        start += len(rows)
        if not torch.equal(torch.from_numpy(np.array(dequantize(part, kind), dtype=np.float32)), rows):
            return False
    return True


def _rounding(plan: Sequence[Planned], outcome: Outcome) -> str:
    copied = sum(planned.copied is not None for planned in plan)
    return (
        f"{copied} of {len(plan)} tensors of the recovered GGUF file are those of the file that came in, to the byte. "
        f"Rounding the others to their types left an error of {100 * outcome.relative_error:.2g} % "
        "(root mean square, of the weights')."
    )


def _change(why: str, names: Sequence[str]) -> str:
    left = len(names) - _NAMED
    more = f" and {left} more" if left > 0 else ""
    return f"In the recovered GGUF file {', '.join(names[:_NAMED])}{more} became {why}."
