"""The model of a job that came as a GGUF file, handed out as one again: each tensor in the type that it had.

The pruned file is a copy of the original's bytes (`engine/pruning/gguf_depth.py`). What a recovery has changed cannot
be copied; it is quantised anew, with the file's own tokenizer. Where that rounds, the file is not the model that the
checkpoint is, and the benchmark measures it as a variant of its own (`benchmark_variants.py`).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from secateur.contract.errors import UnsupportedModel
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.results import PrunedFile
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.pruning.gguf_depth import kept_keys
from workers.engine.quantise.gguf_like import export_like
from workers.stages.context import StageContext
from workers.stages.original import source_gguf

FOLDER = "gguf"  # of the stage's folder


def write_as_it_came(
    context: StageContext, checkpoint: Path, *, kept: Sequence[int]
) -> tuple[PrunedFile | None, list[str]]:
    """Write the checkpoint as a GGUF file if the job's model came as one.

    Args:
        kept: the numbers that the checkpoint's blocks had in the original.

    Returns:
        The file, relative to the stage's folder, and what is to be said of it. There is none where llama.cpp would
        read another model from it; the note says why.
    """
    source = source_gguf(context)
    if source is None:
        return None, []
    keys = _own_keys(context, source, kept)
    target = context.out / FOLDER / f"{source.stem}-recovered.gguf"
    shutil.rmtree(target.parent, ignore_errors=True)  # of an attempt that was killed
    try:
        written = export_like(
            Checkpoint.open(checkpoint), target, source=source, kept=kept, keys=keys, progress=context.progress
        )
    except UnsupportedModel as error:
        return None, [f"The recovered model is not handed out as a GGUF file. {error.detail}"]
    file = PrunedFile(
        path=f"{FOLDER}/{target.name}",
        bytes_before=source.stat().st_size,
        bytes_after=target.stat().st_size,
        relative_error=written.relative_error,
    )
    return file, written.notes


def _own_keys(context: StageContext, source: Path, kept: Sequence[int]) -> list[bytes] | None:
    """The file's keys where they hold for the model that is left; None where they have to be made of its config."""
    if not isinstance(context.stage.spec.pruning, DepthPruning):
        return None
    try:
        return kept_keys(source, kept)
    except UnsupportedModel:  # a kept block would have another part by its number; a config may say it
        return None
