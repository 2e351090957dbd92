"""A checkpoint's tensors written again under other names, or left out wholly or in part, without reading them.

That needs the header only: the bytes of what is kept, whole tensors or entries of their first dimension, are copied by
the kernel, in as few ranges as their order allows. Memory stays flat, time is that of copying the file, and the dtype
does not matter. The index of a sharded checkpoint follows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from secateur.contract.errors import BadCheckpoint
from workers.engine.checkpoints.checkpoint import INDEX_FILE, WEIGHTS_FILE, Checkpoint, read_json_file
from workers.engine.checkpoints.copy_range import copy_range
from workers.engine.checkpoints.json_file import write_json
from workers.engine.checkpoints.safetensors_file import (
    ALIGNMENT,
    PAGE,
    SafetensorsHeader,
    TensorEntry,
    encode_header,
)
from workers.engine.progress import Progress

_NAMES = "tensor_names"  # torchao's entry of a header
NewName = str | None  # what a tensor is called from now on; None where it is left out
Rows = Sequence[int] | None  # entries of its first dimension that are kept, ascending; None for all


@dataclass(frozen=True)
class _Kept:
    """A tensor as it is from now on, and where its bytes are in the source."""

    entry: TensorEntry
    ranges: tuple[tuple[int, int], ...]  # start and size


@dataclass(frozen=True)
class _Shard:
    """One output file: where its tensors come from, and what they are now."""

    source: SafetensorsHeader
    name: str
    tensors: tuple[_Kept, ...]  # in the order of their bytes
    metadata: Mapping[str, str]


def write_renamed(
    checkpoint: Checkpoint,
    folder: Path,
    new_name: Callable[[str], NewName],
    *,
    rows: Callable[[str], Rows] = lambda name: None,
    progress: Progress,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Write the weights of `checkpoint`, and the index where there is one, into `folder`.

    Args:
        new_name: of each tensor.
        rows: which entries of each tensor that has a new name are kept.
        progress: counts bytes.
        after_step: called after each range that was copied; may raise.
    """
    shards = _plan(checkpoint, new_name, rows)
    total = sum(kept.entry.nbytes for shard in shards for kept in shard.tensors)
    done = 0
    for shard in shards:
        for size in _write_shard(shard, folder / shard.name):
            done += size
            progress(done, total, "bytes")
            after_step()
    if (checkpoint.path / WEIGHTS_FILE).is_file():
        (folder / shards[0].name).rename(folder / WEIGHTS_FILE)
    else:
        write_json(folder / INDEX_FILE, _index(checkpoint, shards, total))


def _plan(checkpoint: Checkpoint, new_name: Callable[[str], NewName], rows: Callable[[str], Rows]) -> list[_Shard]:
    kept = []
    for header in checkpoint.headers:
        tensors = tuple(
            _kept(entry, name, rows(entry.name))
            for entry in header.tensors
            if (name := new_name(entry.name)) is not None
        )
        if tensors:
            kept.append((header, tensors, _metadata(header, new_name)))
    return [
        _Shard(header, f"model-{number:05d}-of-{len(kept):05d}.safetensors", tensors, metadata)
        for number, (header, tensors, metadata) in enumerate(kept, start=1)
    ]


def _metadata(header: SafetensorsHeader, new_name: Callable[[str], NewName]) -> dict[str, str]:
    """A header's free entries: torchao says in them what the parts of a weight make up, by the weight's name.

    Raises:
        BadCheckpoint: its list of such weights is none.
    """
    found = {new: value for key, value in header.metadata.items() if (new := new_name(key)) is not None}
    if _NAMES in found:
        try:
            names = json.loads(found[_NAMES])
            found[_NAMES] = json.dumps([new for name in names if (new := new_name(name)) is not None])
        except (TypeError, ValueError) as error:
            raise BadCheckpoint(f"{header.path.name}: {_NAMES} of the header is no list of tensors.") from error
    return found


def _kept(entry: TensorEntry, name: str, rows: Rows) -> _Kept:
    if rows is None:
        return _Kept(replace(entry, name=name), ((entry.start, entry.nbytes),))
    size = entry.nbytes // entry.shape[0]
    shape = (len(rows), *entry.shape[1:])
    return _Kept(
        replace(entry, name=name, shape=shape, nbytes=len(rows) * size),
        tuple((entry.start + row * size, size) for row in rows),
    )


def _write_shard(shard: _Shard, target: Path) -> Iterator[int]:
    """Write one file; yields the bytes copied by each step."""
    steps: list[int] = []
    with shard.source.path.open("rb") as source, target.open("wb", buffering=0) as file:
        file.write(
            encode_header((kept.entry for kept in shard.tensors), shard.metadata, start=_best_start(shard.tensors))
        )
        for start, size in _ranges(shard.tensors):
            copy_range(source.fileno(), file.fileno(), start, size, copied=steps.append)
            yield from steps
            steps.clear()


def _best_start(tensors: Sequence[_Kept]) -> int | None:
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


def _ranges(tensors: Iterable[_Kept]) -> Iterator[tuple[int, int]]:
    """Start and size of the fewest ranges that hold the tensors, which come in the order of their bytes."""
    start = end = -1
    for at, size in (part for kept in tensors for part in kept.ranges):
        if at != end:
            if end > start:
                yield start, end - start
            start = at
        end = at + size
    if end > start:
        yield start, end - start


def _index(checkpoint: Checkpoint, shards: Sequence[_Shard], total: int) -> dict[str, Any]:
    old = read_json_file(checkpoint.path / INDEX_FILE).get("metadata")
    metadata = {**old, "total_size": total} if isinstance(old, dict) else {"total_size": total}
    metadata.pop("total_parameters", None)  # counted with what is dropped
    weight_map = {kept.entry.name: shard.name for shard in shards for kept in shard.tensors}
    return {"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))}
