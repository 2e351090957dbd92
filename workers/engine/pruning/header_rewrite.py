"""A checkpoint's tensors written again under other names, or left out, without reading them.

That needs the header only: the kept tensors' bytes are copied by the kernel, in as few ranges as their order allows.
Memory stays flat, time is that of copying the file, and the dtype does not matter. The index of a sharded checkpoint
follows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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

NewName = str | None  # what a tensor is called from now on; None where it is left out


@dataclass(frozen=True)
class _Shard:
    """One output file: where its tensors come from, and what they are called now."""

    source: SafetensorsHeader
    name: str
    tensors: tuple[TensorEntry, ...]  # as in the source, in the order of their bytes
    names: tuple[str, ...]


def write_renamed(
    checkpoint: Checkpoint,
    folder: Path,
    new_name: Callable[[str], NewName],
    *,
    progress: Progress,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Write the weights of `checkpoint`, and the index where there is one, into `folder`.

    Args:
        new_name: of each tensor.
        progress: counts bytes.
        after_step: called after each range that was copied; may raise.
    """
    shards = _plan(checkpoint, new_name)
    total = sum(entry.nbytes for shard in shards for entry in shard.tensors)
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


def _plan(checkpoint: Checkpoint, new_name: Callable[[str], NewName]) -> list[_Shard]:
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
