"""A checkpoint as a GGUF file of the types of the one that its model came in, tensor by tensor.

Such a file mixes types: a Q4_K_M has some matrices in Q6_K, and the embedding maybe in another. Each tensor of the new
file gets the type that it had. One whose values nobody has changed is copied to the byte, so nothing is lost by
rounding it a second time, and a type that is read and not written (the IQ family) can stay. What cannot have its type
is said.

Where whole blocks went and nothing else, the file's own keys still hold, so any family can be written whose tensors
have an inverse; its keys need not be made of a config. Where the model has another form now, such as other widths,
they must be, which holds for the families that `gguf_config.py` knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf.quants import dequantize

from secateur.contract.errors import UnsupportedModel
from secateur.contract.gguf_kinds import fitting
from workers.engine.architectures.config import as_config
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf.rope import FACTORS, LONG, SHORT
from workers.engine.checkpoints.gguf_file import BLOCK_SIZES, GgufHeader, GgufTensor, read_gguf_header
from workers.engine.progress import Progress, no_progress
from workers.engine.quantise.gguf_config import architecture, config_keys, supported
from workers.engine.quantise.gguf_export import tokenizer_of
from workers.engine.quantise.gguf_tensors import Weight, rope_weights, weights_of
from workers.engine.quantise.gguf_types import TENSOR_TYPES, Kind, substitute
from workers.engine.quantise.gguf_writing import Copied, Planned, rows_of, write_gguf
from workers.engine.quantise.outcome import Outcome

_BLOCK = re.compile(r"^blk\.(\d+)\.")
_NAMED = 3  # tensors that a note names
_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"
_GONE = "gone."  # before the names of tensors whose block is gone


@dataclass(frozen=True)
class Alike:
    """What became of a file that is written in the types of another."""

    relative_error: float  # of the tensors that were rounded; 0 where the file holds the checkpoint's very values
    notes: list[str]  # how much was rounded, and which tensors have another type now, and why


def export_like(
    checkpoint: Checkpoint,
    target: Path,
    *,
    source: Path,
    kept: Sequence[int],
    keys: Sequence[bytes] | None = None,
    progress: Progress = no_progress,
) -> Alike:
    """Write the checkpoint as the only file of the new folder of `target`.

    Args:
        source: the GGUF file that the model came in; its tokenizer is copied too.
        kept: the numbers that the checkpoint's blocks had in it.
        keys: the file's own, encoded, where they hold for the checkpoint; None: they are made of its config.
        progress: counts tensors.

    Raises:
        UnsupportedModel: the checkpoint's tensors are not the file's; without `keys`, also as `export_gguf`.
        StageFailed: as `export_gguf`.
    """
    header = read_gguf_header(source)
    tensors = {_new_name(tensor.name, kept): tensor for tensor in header.tensors}
    if keys is None:
        config: Any = supported(checkpoint.config)
        keys = _made_keys(checkpoint, config, header)
        weights = [*weights_of(checkpoint, config, architecture(config)), *rope_weights(config)]
        plan: list[Planned] = []
    else:
        config = as_config(dict(checkpoint.config))
        made = weights_of(checkpoint, config, header.architecture)
        weights = [*_beside_the_files(made, tensors), *_under_two_names(made, tensors)]
        plan = _without_weights(weights, header, tensors)
    changes: dict[str, list[str]] = {}  # from what to what, and why → tensors
    for weight in weights:
        planned, why = _planned(weight, header, tensors.get(weight.name))
        plan.append(planned)
        if why is not None:
            changes.setdefault(why, []).append(weight.name)
    outcome = write_gguf(target, keys, plan, progress=progress)
    notes = [_rounding(plan, outcome), *(_change(why, names) for why, names in changes.items())]
    return Alike(outcome.relative_error, notes)


def _made_keys(checkpoint: Checkpoint, config: Any, header: GgufHeader) -> list[bytes]:
    file_type = header.values.get("general.file_type")
    number = file_type.value if file_type is not None and type(file_type.value) is int else None
    tokenizer = tokenizer_of(checkpoint, config.vocab_size, header.path)
    return [*config_keys(config, checkpoint.path.name, number), *tokenizer]


def _new_name(name: str, kept: Sequence[int]) -> str:
    """The name that a tensor of the file that came in has now; one that none has where its block is gone."""
    found = _BLOCK.match(name)
    if found is None:
        return name
    number = int(found[1])
    return f"blk.{kept.index(number)}.{name[found.end() :]}" if number in kept else f"{_GONE}{name}"


def _beside_the_files(made: Sequence[Weight], tensors: Mapping[str, GgufTensor]) -> list[Weight]:
    """The weights without biases that the file lacked and that are still 0: one switch of a config stands for many."""
    return [
        weight
        for weight in made
        if weight.name in tensors or not weight.name.endswith(".bias") or bool(weight.make().any())
    ]


def _under_two_names(made: Sequence[Weight], tensors: Mapping[str, GgufTensor]) -> list[Weight]:
    """The head of a file that stores it although it is the embedding: that model has it once."""
    by_name = {weight.name: weight for weight in made}
    if _HEAD in by_name or _HEAD not in tensors:
        return []
    embedding = by_name[_EMBEDDING]
    return [Weight(replace(embedding.place, name=_HEAD), embedding.make)]


def _without_weights(weights: Sequence[Weight], header: GgufHeader, tensors: Mapping[str, GgufTensor]) -> list[Planned]:
    """What the file has beside weights, copied: divisors of the rotary frequencies.

    Raises:
        UnsupportedModel: it has a tensor that nothing of the checkpoint makes.
    """
    made = {weight.name for weight in weights}
    found = []
    for name, tensor in tensors.items():
        if name in made or name.startswith(_GONE):
            continue
        if name not in (FACTORS, LONG, SHORT):
            reason = f"Nothing of the checkpoint makes the tensor {name} of the file that came in."
            raise UnsupportedModel.field("kind", reason, expected="the model that came in, some blocks fewer")
        place = replace(weights[0].place, name=name, shape=tuple(reversed(tensor.shape)))
        found.append(Planned(Weight(place, _never), tensor.type_name, Copied(header.path, tensor)))
    return found


def _never() -> torch.Tensor:
    raise AssertionError("what is copied is not made")


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
