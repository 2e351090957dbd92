"""Write a checkpoint again with some of its tensors changed: copy the files, then overwrite byte ranges.

A recovered model has the shapes, names and dtypes of the pruned one, so its files differ from the pruned files in
the bytes of some tensors and in nothing else. A tied head that is one tensor stays one, shards stay the shards that
they were, the config is the same to the byte, and one tensor at a time is in memory.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from secateur.contract.errors import BadCheckpoint, StageFailed
from secateur.whole_files import whole_folder
from workers.engine.checkpoints.checkpoint import CONFIG_FILE, INDEX_FILE, TORCH_DTYPES, Checkpoint
from workers.engine.checkpoints.own_loader import add_loader, needs_loader
from workers.engine.checkpoints.safetensors_file import TensorEntry
from workers.engine.checkpoints.side_files import copy_side_files
from workers.engine.progress import Progress, no_progress

Change = Callable[[Tensor], Tensor]  # the tensor on disk, in fp32, to what replaces it, of the same shape


def patch_checkpoint(
    source: Checkpoint, target: Path, changes: Mapping[str, Change], *, progress: Progress = no_progress
) -> None:
    """Write `source` to the folder `target` with the tensors named in `changes` replaced.

    Args:
        changes: tensor name on disk → what to make of it; the result is rounded to the dtype on disk.

    Raises:
        BadCheckpoint: `source` has no such tensor.
        StageFailed: a change gives another shape, or a number that is not finite.
    """
    entries = {entry.name: (header.path.name, entry) for header in source.headers for entry in header.tensors}
    for name in changes:
        if name not in entries:
            raise BadCheckpoint(f"The checkpoint has no tensor {name}.")
    with whole_folder(target) as part:
        copy_side_files(source.path, part)
        for name in [CONFIG_FILE, INDEX_FILE, *(file.name for file in source.files())]:
            if (source.path / name).is_file():
                shutil.copyfile(source.path / name, part / name)
        if needs_loader(source.config):
            add_loader(part)
        for done, (name, change) in enumerate(changes.items(), start=1):
            file, entry = entries[name]
            _overwrite(part / file, entry, _changed(source.read(name), change, name))
            progress(done, len(changes), "tensors")


def together(source: Checkpoint, names: Sequence[str], change: Change) -> dict[str, Change]:
    """`change` for a tensor that is stored under each of `names`: it is made once, and all get the same values.

    Where they differ in dtype, the values are rounded to every one, or they would differ when they are read again.
    """
    made: list[Tensor] = []
    dtypes = {TORCH_DTYPES[source.dtype(name)] for name in names}

    def once(before: Tensor) -> Tensor:
        if not made:
            after = change(before).detach()
            for dtype in sorted(dtypes, key=str) if len(dtypes) > 1 else ():
                after = after.to(dtype).float()
            made.append(after)
        return made[0]

    return dict.fromkeys(names, once if len(names) > 1 else change)


def _changed(before: Tensor, change: Change, name: str) -> Tensor:
    after = change(before.float()).detach().to("cpu", before.dtype)
    if after.shape != before.shape:
        raise StageFailed(f"The new values of {name} have the shape {tuple(after.shape)}, not {tuple(before.shape)}.")
    if not torch.isfinite(after).all():
        raise StageFailed(f"The new values of {name} are not all finite in {before.dtype}.")
    return after.contiguous()


def _overwrite(file: Path, entry: TensorEntry, tensor: Tensor) -> None:
    if tensor.dtype is not TORCH_DTYPES[entry.dtype] or tensor.nbytes != entry.nbytes:
        raise StageFailed(f"{entry.name} would change its size in the file.")
    data = tensor.reshape(-1).view(torch.uint8).numpy().data
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(descriptor, data[done : done + (1 << 30)], entry.start + done)
    finally:
        os.close(descriptor)
