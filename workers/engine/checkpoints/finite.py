"""Whether weights are finite, asked before they turn every score and every loss into NaN.

A NaN in one matrix makes all blocks score alike, and the ranking that comes out looks like one. So whoever reads all
the bytes of a checkpoint anyway, as its fingerprint does, looks here too, and the job ends with the tensor's name.
"""

from __future__ import annotations

import torch

from secateur.contract.errors import BadCheckpoint
from secateur.foreign_files.json_objects import quoted

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


def nonfinite(name: str, count: int) -> BadCheckpoint:
    """The error for a tensor of the original with `count` weights that are no finite numbers."""
    return BadCheckpoint.field(
        "model",
        f"The tensor {quoted(name)} holds {count} NaN or infinite values: the checkpoint is damaged, "
        "or its training diverged.",
        value=name,
        expected="finite weights; no dtype mends such a checkpoint",
    )
