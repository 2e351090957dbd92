"""Depth pruning of a GGUF file, still quantised, without loading it.

The tensors of a block are named `blk.N.…`; those of dropped blocks are left out, the others renumbered, and their
bytes copied by the kernel. `block_count` and the arrays with one entry per block follow, the tokenizer and every other
key are copied as they are. Nothing is dequantised, so what is kept is bit for bit what it was.

A GGUF file says less than a config: where a family treats blocks differently by their number, llama.cpp derives that
from the number and the family's period, and the file has no place to write the kept blocks' own pattern. So there
a cut is possible only if each kept block falls on its old place in the period; anything else is refused.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from secateur.contract.errors import BadCheckpoint, StageFailed, UnsupportedModel
from secateur.whole_files import whole_file
from workers.engine.checkpoints.copy_range import copy_range
from workers.engine.checkpoints.gguf_file import (
    ARRAY,
    MAGIC,
    GgufHeader,
    GgufTensor,
    GgufValue,
    encode_tensors,
    encode_value,
    padding,
    read_gguf_header,
)
from workers.engine.checkpoints.new_folder import full_disk
from workers.engine.progress import Progress, no_progress
from workers.engine.pruning.depth import blocks_to_keep

_BLOCK = re.compile(r"^blk\.(\d{1,6})\.")
# Keys under the architecture's name whose value may be an array with one entry per block.
_PER_BLOCK = (
    "attention.head_count",
    "attention.head_count_kv",
    "attention.sliding_window_pattern",
    "expert_feed_forward_length",
    "feed_forward_length",
    "swiglu_clamp_exp",
    "swiglu_clamp_shexp",
)
# Numbers that count blocks from the first: "the first k blocks are dense".
_PREFIX_COUNTS = ("leading_dense_block_count",)
# Numbers that are a period over the blocks.
_PERIOD_KEYS = (
    "attention.sliding_window_pattern",
    "full_attention_interval",
    "interleave_moe_layer_step",
    "moe_every_n_layers",
)
# Periods that llama.cpp has in its code: sliding windows, and blocks without rotary embeddings.
_PERIODS: Mapping[str, int] = {
    "cohere2": 4,
    "exaone4": 4,
    "gemma2": 2,
    "gemma3": 6,
    "gpt-oss": 2,
    "llama4": 4,
    "olmo2": 4,
    "smollm3": 4,
}
# llama.cpp knows these models' 27B variants by their number of blocks, and scales their attention otherwise.
_KNOWN_BY_COUNT: Mapping[str, frozenset[int]] = {"gemma2": frozenset({46}), "gemma3": frozenset({62})}
# Blocks that carry a state, or read more than the block before: not a stack that blocks can be taken out of.
_NOT_A_STACK = ("ssm.", "wkv.", "kda.", "shortconv.", "posnet.", "convnext.", "altup.")
_SHARED = (
    "attention.shared_kv_layers",
    "embedding_length_per_layer_input",
    "n_deepstack_layers",
    "decoder_block_count",
)


@dataclass(frozen=True)
class GgufPruned:
    """What was kept, and what it weighs."""

    kept: list[int]  # numbers that the kept blocks had, ascending
    dropped: list[int]
    parameters_before: int  # elements of all tensors
    parameters_after: int
    bytes_before: int  # of the files
    bytes_after: int


def prune_gguf_depth(
    source: Path, target: Path, *, drop: Sequence[int], progress: Progress = no_progress
) -> GgufPruned:
    """Write the GGUF file `source` without the blocks `drop` to the new file `target`.

    The file appears under its name only when it is complete; after an error nothing is left.

    Args:
        drop: numbers of blocks, from 0, in any order.
        progress: counts bytes.

    Raises:
        InvalidInput: `drop` is empty, names a block twice or one that does not exist, or names all.
        BadCheckpoint: the source is broken, or is one part of a split model.
        UnsupportedModel: the family is no plain stack of blocks, or a kept block would work differently.
        StageFailed: the disk is full, or `target` exists.
    """
    header = read_gguf_header(source)
    count = _block_count(header)
    keep = blocks_to_keep(count, drop)
    _refuse_unsupported(header, count, keep)
    tensors, names = _kept_tensors(header, count, keep)
    head = _encode_head(header, tensors, names, count, keep)
    total = sum(tensor.nbytes for tensor in tensors)
    with _new_file(target) as temporary:
        done = 0
        with source.open("rb") as read, temporary.open("wb", buffering=0) as write:
            write.write(head + bytes(padding(len(head), header.alignment)))
            for size in _copy(read, write, tensors, header.alignment):
                done += size
                progress(done, total, "bytes")
        written = read_gguf_header(temporary)
    return GgufPruned(
        kept=keep,
        dropped=sorted(set(range(count)) - set(keep)),
        parameters_before=_parameters(header),
        parameters_after=_parameters(written),
        bytes_before=header.file_bytes,
        bytes_after=written.file_bytes,
    )


def kept_keys(source: Path, keep: Sequence[int]) -> list[bytes]:
    """The keys of the GGUF file `source`, encoded, as they are where it has these blocks alone.

    How its tensors are aligned is left out, since that is for whoever writes them to say.

    Args:
        keep: numbers of blocks, ascending.

    Raises:
        BadCheckpoint, UnsupportedModel: as `prune_gguf_depth`.
    """
    header = read_gguf_header(source)
    count = _block_count(header)
    _refuse_unsupported(header, count, keep)
    return [encoded for key, encoded in _keys(header, count, keep) if key != "general.alignment"]


def _block_count(header: GgufHeader) -> int:
    """The number of blocks, which the names of the tensors bear out."""
    name, count = header.path.name, header.number("block_count")
    if count is None or count < 1:
        raise BadCheckpoint(f"{name}: the key '{header.architecture}.block_count' is missing or no count.")
    split = header.values.get("split.count")
    if split is not None and split.value not in (0, 1):
        raise BadCheckpoint(f"{name}: the file is one part of a split model; merge the parts first.")
    numbers = {int(found[1]) for tensor in header.tensors if (found := _BLOCK.match(tensor.name))}
    if numbers != set(range(len(numbers))) or len(numbers) != count:
        raise BadCheckpoint(f"{name}: block_count is {count}, and the tensors make up {len(numbers)} blocks.")
    predicting = header.number("nextn_predict_layers") or 0  # layers behind the blocks, counted with them
    if not 0 <= predicting < count:
        raise BadCheckpoint(f"{name}: {predicting} of {count} blocks are announced as multi-token-prediction layers.")
    return count - predicting


def _refuse_unsupported(header: GgufHeader, count: int, keep: Sequence[int]) -> None:
    architecture = header.architecture
    for key in header.values:
        part = key.removeprefix(f"{architecture}.")
        if part.startswith(_NOT_A_STACK):
            raise UnsupportedModel(f"{header.path.name}: a {architecture} model has blocks of another kind ({part}).")
    for key in _SHARED:
        found = header.values.get(f"{architecture}.{key}")
        if found is not None and found.value:
            raise UnsupportedModel(f"{header.path.name}: the blocks of this {architecture} model share data ({key}).")
    if count in _KNOWN_BY_COUNT.get(architecture, ()):
        raise UnsupportedModel(
            f"{header.path.name}: llama.cpp knows this {architecture} model by its {count} blocks, and would scale the "
            "attention of a shorter one otherwise; prune its safetensors checkpoint and convert that."
        )
    periods = [header.number(key) for key in _PERIOD_KEYS]
    has_pattern = f"{architecture}.attention.sliding_window_pattern" in header.values
    if architecture in _PERIODS and not has_pattern:
        periods.append(_PERIODS[architecture])
    period = math.lcm(*(size for size in periods if size))
    for position, number in enumerate(keep):
        if position % period != number % period:
            raise UnsupportedModel(
                f"{header.path.name}: every {period} blocks of a {architecture} model differ by their number, and "
                f"block {number} would become {position}; drop whole periods, or prune its safetensors checkpoint."
            )


def _kept_tensors(header: GgufHeader, count: int, keep: Sequence[int]) -> tuple[list[GgufTensor], list[str]]:
    """The tensors that stay, in the order of their bytes, and their new names."""
    numbers = {old: new for new, old in enumerate(keep)}
    tensors, names = [], []
    for tensor in header.tensors:
        found = _BLOCK.match(tensor.name)
        if found is None:
            tensors.append(tensor)
            names.append(tensor.name)
        elif int(found[1]) in numbers:  # else dropped, or a multi-token-prediction layer behind the blocks
            tensors.append(tensor)
            names.append(f"blk.{numbers[int(found[1])]}.{tensor.name[found.end() :]}")
    return tensors, names


def _encode_head(
    header: GgufHeader, tensors: Sequence[GgufTensor], names: Sequence[str], count: int, keep: Sequence[int]
) -> bytes:
    """Magic, counts, keys and table of the new file; what does not change is copied byte for byte."""
    parts = [MAGIC, struct.pack("<IQQ", header.version, len(tensors), len(header.values))]
    parts += (encoded for _, encoded in _keys(header, count, keep))
    renamed = (replace(tensor, name=name) for tensor, name in zip(tensors, names, strict=True))
    return b"".join(parts) + encode_tensors(renamed, header.alignment)


def _keys(header: GgufHeader, count: int, keep: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    """Each key with its encoded pair."""
    with header.path.open("rb") as file:
        for value in header.values.values():
            edited = _edited(header, value, count, keep)
            if edited is None:
                file.seek(value.start)
                yield value.key, file.read(value.end - value.start)
            else:
                yield value.key, encode_value(value.key, value.kind, edited, element=value.element)


def _edited(header: GgufHeader, value: GgufValue, count: int, keep: Sequence[int]) -> Any:
    """The key's new value, or None if it stays as it is."""
    prefix, _, key = value.key.partition(".")
    if prefix != header.architecture:
        return None
    if key == "block_count":
        return len(keep)
    if key == "nextn_predict_layers":
        return 0
    if key in _PREFIX_COUNTS and type(value.value) is int:
        return sum(number < value.value for number in keep)
    if value.kind == ARRAY and key in _PER_BLOCK and isinstance(value.value, list):
        if len(value.value) < count:
            raise BadCheckpoint(
                f"{header.path.name}: '{value.key}' has {len(value.value)} entries, and the model {count} blocks."
            )
        return [value.value[number] for number in keep]
    return None


def _copy(source: BinaryIO, target: BinaryIO, tensors: Sequence[GgufTensor], alignment: int) -> Iterator[int]:
    """Copy the tensors, each padded to the alignment; yields the bytes of each step."""
    steps: list[int] = []
    for tensor in tensors:
        copy_range(source.fileno(), target.fileno(), tensor.start, tensor.nbytes, copied=steps.append)
        target.write(bytes(padding(tensor.nbytes, alignment)))
        yield from steps
        steps.clear()


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """A file beside `target` that takes its name when the block ends well, and is removed when it does not."""
    if target.exists():
        raise StageFailed(f"The file {target.name} exists already; a model is never written over another.")
    with full_disk(), whole_file(target) as part:
        yield part


def _parameters(header: GgufHeader) -> int:
    return sum(math.prod(tensor.shape) for tensor in header.tensors)
