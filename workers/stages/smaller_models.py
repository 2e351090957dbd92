"""Models without so many blocks or halves, to be timed: which these are does not matter as long as they are alike."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedModel

from workers.engine.benchmarks.depth_fit import evenly
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import load_model
from workers.engine.pruning.depth import prune_depth
from workers.engine.pruning.sub_block import prune_sub_block
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
    if not removed:
        return load_model(original.checkpoint, device=machine.device, dtype=machine.dtype)
    drop = evenly(free, removed)
    folder = context.scratch / f"without-{removed}"
    return _smaller(folder, machine, lambda: prune_depth(original.checkpoint, folder, drop=drop))


def without_units(context: StageContext, original: Original, machine: Machine, *, drop: list[str]) -> PreTrainedModel:
    """The same without the halves `drop` of its blocks: "3.attention"; with none, whole.

    Raises:
        UnsupportedModel: as `shallower`, or the halves of the family are not found by structure.
    """
    if not drop:
        return load_model(original.checkpoint, device=machine.device, dtype=machine.dtype)
    folder = context.scratch / "without-halves"
    return _smaller(folder, machine, lambda: prune_sub_block(original.checkpoint, folder, drop=drop))


def _smaller(folder: Path, machine: Machine, prune: Callable[[], object]) -> PreTrainedModel:
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was killed
    prune()
    model = load_model(Checkpoint.open(folder), device=machine.device, dtype=machine.dtype)
    shutil.rmtree(folder)  # what is mapped of it stays until the model goes
    return model
