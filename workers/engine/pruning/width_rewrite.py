"""Write a checkpoint with narrower blocks, one tensor in memory at a time.

Shards stay the shards that they were, under their names, and what is outside the blocks is copied by the kernel. Biases
that pruning adds stand beside the weight that they belong to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from workers.engine.checkpoints.block_names import block_of
from workers.engine.checkpoints.checkpoint import INDEX_FILE, TORCH_DTYPES, Checkpoint, read_json_file
from workers.engine.checkpoints.copy_range import copy_range
from workers.engine.checkpoints.json_file import write_json
from workers.engine.checkpoints.safetensors_file import TensorEntry, encode_header
from workers.engine.progress import Progress
from workers.engine.pruning.channels import Cut, Kept, Layout
from workers.engine.pruning.flap import compensation
from workers.engine.pruning.width_task import Choice


@dataclass(frozen=True)
class Rewrite:
    """A checkpoint, and what becomes of its blocks."""

    checkpoint: Checkpoint
    prefix: str  # of the blocks' tensors on disk, dot included
    layout: Layout
    choice: Choice
    added: Mapping[int, Mapping[str, tuple[int, ...]]]  # block → biases that it gets, by name within the block

    def write(self, folder: Path, *, progress: Progress) -> int:
        """Write the weights, and the index where there is one, into `folder`; returns the bytes of all tensors."""
        cuts = {cut.name: cut for cut in self.layout.cuts}
        total = sum(entry.nbytes for header in self.checkpoint.headers for entry in header.tensors)
        done = written = 0
        places: dict[str, str] = {}
        for header in self.checkpoint.headers:
            entries = [new for entry in header.tensors for new in self._entries(entry, cuts)]
            with header.path.open("rb") as source, (folder / header.path.name).open("wb", buffering=0) as file:
                file.write(encode_header(entries, header.metadata))
                for entry in header.tensors:
                    self._write(entry, source, file, cuts)
                    done += entry.nbytes
                    progress(done, total, "bytes")
            written += sum(entry.nbytes for entry in entries)
            places.update({entry.name: header.path.name for entry in entries})
        if (self.checkpoint.path / INDEX_FILE).is_file() and len(self.checkpoint.headers) > 1:
            _write_index(self.checkpoint, folder, places, written)
        return written

    def _entries(self, entry: TensorEntry, cuts: Mapping[str, Cut]) -> Iterator[TensorEntry]:
        """What an entry becomes: itself with its new shape, and a bias after a weight that gets one."""
        block, name = self._place(entry.name)
        if block is None:
            yield entry
            return
        kept, cut = self.choice.kept[block], cuts.get(name)
        shape = list(entry.shape)
        if cut is not None:
            shape[cut.axis] = len(self.layout.index(cut, kept))
        yield _resized(entry, entry.name, tuple(shape))
        bias = name.removesuffix("weight") + "bias"
        if name.endswith(".weight") and bias in self.added.get(block, {}):
            yield _resized(entry, entry.name.removesuffix("weight") + "bias", self.added[block][bias])

    def _write(self, entry: TensorEntry, source: IO[bytes], file: IO[bytes], cuts: Mapping[str, Cut]) -> None:
        block, name = self._place(entry.name)
        if block is None or (name not in cuts and not self._is_compensated(name)):
            copy_range(source.fileno(), file.fileno(), entry.start, entry.nbytes, copied=lambda _: None)
            return
        tensor = self.checkpoint.read(entry.name)
        if name in cuts:
            cut = cuts[name]
            kept = tensor.index_select(cut.axis, self.layout.index(cut, self.choice.kept[block]))
        else:  # the bias of an output projection that had one
            kept = (tensor.double() + self._bias(block, name.removesuffix(".bias"))).to(tensor.dtype)
        _append(file, kept)
        path, bias = name.removesuffix(".weight"), name.removesuffix("weight") + "bias"
        if name.endswith(".weight") and bias in self.added.get(block, {}):
            values = torch.zeros(self.added[block][bias], dtype=torch.float64)
            if self._is_compensated(bias):
                values = self._bias(block, path, tensor)
            _append(file, values.to(tensor.dtype))

    def _is_compensated(self, name: str) -> bool:
        """Whether the parameter is the bias of an output projection, and biases make up for what goes."""
        return bool(self.choice.head_means) and name in (
            f"{self.layout.attention_output}.bias",
            f"{self.layout.down}.bias",
        )

    def _bias(self, block: int, path: str, weight: Tensor | None = None) -> Tensor:
        """What the pruned input channels of the projection `path` gave on average, (out,)."""
        if weight is None:
            weight = self.checkpoint.read(f"{self.prefix}{block}.{path}.weight")
        means = self.choice.head_means if path == self.layout.attention_output else self.choice.neuron_means
        cut = next((cut for cut in self.layout.cuts if cut.name == f"{path}.weight"), None)
        channels = len(means[block])
        kept = self.layout.index(cut, self.choice.kept[block]) if cut else torch.arange(channels)
        return compensation(weight.T if self.layout.transposed else weight, means[block], kept)

    def _place(self, name: str) -> tuple[int | None, str]:
        """Block number and name within the block of a tensor on disk."""
        block = block_of(name, self.prefix)
        if block is None or block >= len(self.choice.kept):
            return None, name
        return block, name.removeprefix(f"{self.prefix}{block}.")


def added_shapes(layout: Layout, kept: Kept, added: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Sizes of the biases that a block gets.

    Args:
        added: bias → the weight of the same module, whose output channels it has.
    """
    shapes = layout.shapes_of(len(kept.groups), len(kept.neurons))
    return {bias: (shapes[weight][1 - layout.input_axis],) for bias, weight in added.items()}


def _resized(entry: TensorEntry, name: str, shape: tuple[int, ...]) -> TensorEntry:
    size = TORCH_DTYPES[entry.dtype].itemsize * math.prod(shape)
    return replace(entry, name=name, shape=shape, nbytes=size)


def _append(file: IO[bytes], tensor: Tensor) -> None:
    data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
    done = 0
    while done < len(data):
        done += file.write(data[done : done + (1 << 30)])


def _write_index(checkpoint: Checkpoint, folder: Path, places: Mapping[str, str], total: int) -> None:
    index = read_json_file(checkpoint.path / INDEX_FILE)
    metadata = index.get("metadata")
    kept = dict(metadata) if isinstance(metadata, dict) else {}
    kept.pop("total_parameters", None)  # counted before pruning
    index = {"metadata": {**kept, "total_size": total}, "weight_map": dict(sorted(places.items()))}
    write_json(folder / INDEX_FILE, index)
