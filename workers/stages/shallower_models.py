"""Models without so many blocks, to be timed: which blocks these are does not matter as long as they are alike."""

from __future__ import annotations

import shutil

from transformers import PreTrainedModel

from workers.engine.benchmarks.depth_fit import evenly
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import load_model
from workers.engine.pruning.depth import prune_depth
from workers.engine.runtime import Machine
from workers.stages.context import StageContext
from workers.stages.original import Original


def shallower(
    context: StageContext, original: Original, machine: Machine, *, removed: int, free: list[int]
) -> PreTrainedModel:
    """The original in memory without `removed` of its blocks, taken evenly from those that may go; with none, whole.

    It is pruned as a job's own model is and loaded like it. The files are gone when it is loaded.

    Raises:
        UnsupportedModel: a kept block would work differently under its new number.
    """
    checkpoint = original.checkpoint
    folder = context.scratch / f"without-{removed}"
    if removed:
        shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was killed
        prune_depth(checkpoint, folder, drop=evenly(free, removed))
        checkpoint = Checkpoint.open(folder)
    model = load_model(checkpoint, device=machine.device, dtype=machine.dtype)
    if removed:
        shutil.rmtree(folder)  # what is mapped of it stays until the model goes
    return model
