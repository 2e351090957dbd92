"""Find weights that are NaN or infinite, before they turn every score and every loss into NaN.

A NaN in one matrix makes all blocks score alike, and the ranking that comes out looks like one. So whoever scans
a checkpoint's weights anyway asks here, and the job fails with the tensor's name.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from app.errors import BadCheckpoint
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.safetensors_file import shown
from workers.engine.progress import Progress, no_progress

_CHUNK = 1 << 24  # elements looked at a time, so that a check needs little memory beside the tensor


def count_nonfinite(tensor: torch.Tensor) -> int:
    """How many elements are NaN or infinite; 0 for whole numbers, which cannot be."""
    if not tensor.is_floating_point():
        return 0
    flat = tensor.flatten()
    count = 0
    for start in range(0, flat.numel(), _CHUNK):
        part = flat[start : start + _CHUNK]
        part = part.float() if part.element_size() == 1 else part  # 8-bit floats have no isfinite of their own
        count += int(torch.isfinite(part).logical_not().sum())
    return count


def check_finite(tensor: torch.Tensor, name: str) -> None:
    """Raise BadCheckpoint, naming the tensor, where it holds NaN or infinity."""
    if count := count_nonfinite(tensor):
        raise BadCheckpoint(
            f"tensor {shown(name)} holds {count} NaN or infinite weights; "
            "the checkpoint is damaged or its training diverged."
        )


def find_nonfinite(
    checkpoint: Checkpoint, *, names: Iterable[str] | None = None, progress: Progress = no_progress
) -> list[str]:
    """Read the tensors one by one, and return the names of those that hold NaN or infinity.

    Args:
        names: which tensors to read; all of them by default.
    """
    wanted = checkpoint.names() if names is None else list(names)
    bad = []
    for done, name in enumerate(wanted):
        progress(done, len(wanted), "tensors")
        if count_nonfinite(checkpoint.read(name)):
            bad.append(name)
    progress(len(wanted), len(wanted), "tensors")
    return bad
