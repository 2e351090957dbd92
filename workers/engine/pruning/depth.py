"""Depth pruning: a checkpoint without some of its Transformer blocks, written without loading it.

Blocks stand one after the other, so a model without some of them is the same file with their tensors left out and
the numbers in the remaining names closed up. That needs the header only: the kept tensors' bytes are copied by the
kernel, in as few ranges as their order allows. Memory stays flat, time is that of copying the file, and the dtype
does not matter, so quantised checkpoints are pruned like any other. The config, the index of a sharded checkpoint
and the quantiser's settings follow the new numbers.

The cut itself is that of Shortened LLaMA (arXiv 2402.02834) and ShortGPT (arXiv 2403.03853); those rebuild the
model in memory and save it.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.errors import BadCheckpoint, InvalidInput
from workers.engine.architectures.architecture import Architecture
from workers.engine.architectures.config import as_config, layer_count
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.block_names import block_of, block_stacks
from workers.engine.checkpoints.checkpoint import CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE, Checkpoint, read_json_file
from workers.engine.checkpoints.copy_range import copy_range
from workers.engine.checkpoints.new_folder import new_folder
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.checkpoints.safetensors_file import (
    ALIGNMENT,
    PAGE,
    SafetensorsHeader,
    TensorEntry,
    encode_header,
)
from workers.engine.checkpoints.side_files import QUANTIZER_FILES, copy_side_files
from workers.engine.progress import Progress, no_progress
from workers.engine.pruning.depth_config import keep_blocks
from workers.engine.pruning.module_names import renumber_module_names

_PREDICTION = re.compile(r"(^|\.)mtp(_layers|_block)?\.")  # multi-token-prediction heads; they knew the whole model


@dataclass(frozen=True)
class DepthPruned:
    """What was kept, and what it weighs."""

    kept: list[int]  # numbers that the kept blocks had, ascending
    dropped: list[int]
    parameters_before: int
    parameters_after: int
    bytes_before: int  # of tensors
    bytes_after: int


@dataclass(frozen=True)
class _Shard:
    """One output file: where its tensors come from, and what they are called now."""

    source: SafetensorsHeader
    name: str
    tensors: tuple[TensorEntry, ...]  # as in the source, in the order of their bytes
    names: tuple[str, ...]


def prune_depth(source: Path, target: Path, *, drop: Sequence[int], progress: Progress = no_progress) -> DepthPruned:
    """Write the checkpoint `source` without the blocks `drop` into the new folder `target`.

    The folder appears under its name only when it is complete; after an error nothing is left.

    Args:
        drop: numbers of blocks, from 0, in any order.
        progress: counts bytes.

    Raises:
        InvalidInput: `drop` is empty, names a block twice or one that does not exist, or names all.
        BadCheckpoint: the source is broken.
        UnsupportedModel: the family is not supported, or a kept block would work differently under its new number.
        StageFailed: the disk is full, or `target` exists.
    """
    checkpoint = Checkpoint.open(source)
    architecture = architecture_of(checkpoint.config)
    prefix, count = _stack(checkpoint, architecture)
    keep = blocks_to_keep(count, drop)
    shards = _plan(checkpoint, prefix, count, keep)
    total = sum(entry.nbytes for shard in shards for entry in shard.tensors)
    with new_folder(target) as folder, ThreadPoolExecutor(1) as executor:
        # The kernel copies without the interpreter's lock, so the new config is made and checked meanwhile.
        config = executor.submit(keep_blocks, checkpoint.config, keep, architecture)
        done = 0
        for shard in shards:
            for size in _write_shard(shard, folder / shard.name):
                done += size
                progress(done, total, "bytes")
                if config.done():
                    config.result()  # refused: do not copy on
        if (source / WEIGHTS_FILE).is_file():
            (folder / shards[0].name).rename(folder / WEIGHTS_FILE)
        else:
            _write_json(folder / INDEX_FILE, _index(checkpoint, shards, total))
        copy_side_files(source, folder)
        _rewrite_quantizer_files(folder, architecture, keep)
        _write_json(folder / CONFIG_FILE, config.result())
        pruned = Checkpoint.open(folder)
    dropped = sorted(set(range(count)) - set(keep))
    return DepthPruned(
        kept=keep,
        dropped=dropped,
        parameters_before=count_parameters(checkpoint.config).total,
        parameters_after=count_parameters(pruned.config).total,
        bytes_before=checkpoint.total_bytes,
        bytes_after=pruned.total_bytes,
    )


def blocks_to_keep(count: int, drop: Sequence[int]) -> list[int]:
    """The blocks of 0 … count-1 that are not in `drop`.

    Raises:
        InvalidInput: with the pointer /pruning/drop, as in `prune_depth`.
    """
    pointer, expected = "/pruning/drop", f"distinct numbers from 0 to {count - 1}, and not all of them"
    if not drop:
        raise InvalidInput.field(pointer, "No block is named.", value=list(drop), expected=expected)
    for number in drop:
        if not 0 <= number < count:
            raise InvalidInput.field(
                pointer, f"The model has {count} blocks, and no block {number}.", value=list(drop), expected=expected
            )
    if len(set(drop)) < len(drop):
        raise InvalidInput.field(pointer, "A block is named twice.", value=list(drop), expected=expected)
    if len(drop) == count:
        raise InvalidInput.field(pointer, "No block would be left.", value=list(drop), expected=expected)
    return sorted(set(range(count)) - set(drop))


def _stack(checkpoint: Checkpoint, architecture: Architecture) -> tuple[str, int]:
    """The prefix under which the file keeps its blocks, dot included, and how many the config declares."""
    stacks = block_stacks(checkpoint.names())
    for path in architecture.disk_prefixes:
        if f"{path}." in stacks:
            return f"{path}.", layer_count(as_config(checkpoint.config))
    raise BadCheckpoint(f"{checkpoint.path.name}: no tensors are named {architecture.blocks_prefix}.0.…")


def _plan(checkpoint: Checkpoint, prefix: str, count: int, keep: Sequence[int]) -> list[_Shard]:
    numbers = {old: new for new, old in enumerate(keep)}

    def new_name(name: str) -> str | None:
        block = block_of(name, prefix)
        if block is None:
            return None if _PREDICTION.search(name) else name
        if block not in numbers:  # dropped, or a multi-token-prediction layer stored behind the blocks
            return None
        return f"{prefix}{numbers[block]}{name[len(prefix) + len(str(block)) :]}"

    kept = []
    for header in checkpoint.headers:
        pairs = [(entry, name) for entry in header.tensors if (name := new_name(entry.name)) is not None]
        if pairs:
            kept.append((header, tuple(entry for entry, _ in pairs), tuple(name for _, name in pairs)))
    return [
        _Shard(header, f"model-{number:05d}-of-{len(kept):05d}.safetensors", tensors, names)
        for number, (header, tensors, names) in enumerate(kept, start=1)
    ]


def _write_shard(shard: _Shard, target: Path) -> Iterator[int]:
    """Write one file; yields the bytes copied by each step."""
    renamed = [replace(entry, name=name) for entry, name in zip(shard.tensors, shard.names, strict=True)]
    steps: list[int] = []
    with shard.source.path.open("rb") as source, target.open("wb", buffering=0) as file:
        file.write(encode_header(renamed, shard.source.metadata, start=_best_start(shard.tensors)))
        for start, size in _ranges(shard.tensors):
            copy_range(source.fileno(), file.fileno(), start, size, copied=steps.append)
            yield from steps
            steps.clear()


def _best_start(tensors: Sequence[TensorEntry]) -> int | None:
    """Where in a page the new file's data should begin, so that most bytes keep their place within a page.

    The kernel then copies whole pages, which takes two thirds of the time. With the widths of most models all do.
    """
    votes: Counter[int] = Counter()
    written = 0
    for start, size in _ranges(tensors):
        votes[(start - written) % PAGE] += size
        written += size
    best = max(votes, key=votes.__getitem__, default=0)
    return best if best % ALIGNMENT == 0 else None


def _ranges(tensors: Iterable[TensorEntry]) -> Iterator[tuple[int, int]]:
    """Start and size of the fewest ranges that hold the tensors, which come in the order of their bytes."""
    start = end = -1
    for tensor in tensors:
        if tensor.start != end:
            if end > start:
                yield start, end - start
            start = tensor.start
        end = tensor.end
    if end > start:
        yield start, end - start


def _index(checkpoint: Checkpoint, shards: Sequence[_Shard], total: int) -> dict[str, Any]:
    old = read_json_file(checkpoint.path / INDEX_FILE).get("metadata")
    metadata = {**old, "total_size": total} if isinstance(old, dict) else {"total_size": total}
    metadata.pop("total_parameters", None)  # counted with the dropped blocks
    weight_map = {name: shard.name for shard in shards for name in shard.names}
    return {"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))}


def _rewrite_quantizer_files(folder: Path, architecture: Architecture, keep: Sequence[int]) -> None:
    """Some quantisers keep their settings in a file of their own; their module names follow the blocks too."""
    numbers = {old: new for new, old in enumerate(keep)}
    stack = architecture.blocks_prefix.rpartition(".")[2]
    for name in QUANTIZER_FILES:
        if (folder / name).is_file():
            _write_json(folder / name, renumber_module_names(read_json_file(folder / name), stack, numbers))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + os.linesep, encoding="utf-8")
