"""Where the weights of a model that is timed lie in memory.

On a CPU a loaded checkpoint's weights are its mapped file: where each tensor begins among the cache lines depends on
the length of the file's header, and what pages hold it on how the file was last written or read. Both are worth some
percent of the time of a token, and neither has to do with the model.
"""

from __future__ import annotations

import mmap

import torch
from torch import nn

CACHE_LINE = 64  # bytes
_ADVICE = getattr(mmap, "MADV_HUGEPAGE", None)  # Linux only


@torch.no_grad()
def place_weights(model: nn.Module) -> None:
    """Copy the weights into memory of their own, in place: each on a cache line, on huge pages where there are such.

    A weight that several modules share stays shared. Weights on another device than a CPU stay as they are.

    Raises:
        OSError: there is no memory for them.
    """
    weights = [weight for weight in model.parameters() if weight.device.type == "cpu" and weight.numel()]
    if not weights:
        return
    sizes = [weight.nbytes + -weight.nbytes % CACHE_LINE for weight in weights]
    memory = mmap.mmap(-1, sum(sizes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if _ADVICE is not None:
        memory.madvise(_ADVICE)
    begin = 0
    for weight, size in zip(weights, sizes, strict=True):
        place = torch.frombuffer(memory, dtype=weight.dtype, count=weight.numel(), offset=begin).view(weight.shape)
        weight.data = place.copy_(weight)
        begin += size
