"""The prune stage: writes the checkpoint without what scoring chose, or without the blocks that the spec names."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from secateur.contract.depth import not_gguf
from secateur.contract.errors import FieldError, UnsupportedModel
from secateur.contract.models.quantised import check_quantised
from secateur.contract.results import Pruned, PrunedFile
from secateur.contract.stage_kinds import SCORE
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.pruning.depth import prune_depth
from workers.engine.pruning.gguf_depth import prune_gguf_depth
from workers.reporting import model_card
from workers.stages.context import StageContext, part
from workers.stages.original import Original, open_original, source_gguf
from workers.stages.prune_sub_block import prune_halves
from workers.stages.prune_width import prune_units
from workers.stages.quantise import refuse_unquantisable


@part("prune")
def prune_blocks(context: StageContext, original: Original) -> Pruned:
    """Depth pruning: whole blocks go, and the files are rewritten without loading the model.

    Raises:
        InvalidInput: the spec names a block that the model does not have, or all of them, or it asks for a GGUF file
            of a model that is none.
        UnsupportedModel: a kept block would work differently under its new number.
    """
    began = time.monotonic()
    named = context.stage.spec.pruning.drop
    drop = list(named) if named is not None else context.read(SCORE).drop
    file = source_gguf(context)
    if context.stage.spec.pruning.gguf and file is None:
        raise not_gguf()
    done = prune_depth(original.path, context.out / "checkpoint", drop=drop, progress=context.progress)
    pruned_file, notes = _prune_file(context, file, done.dropped)
    return Pruned(
        kind="depth",
        dropped=done.dropped,
        kept=done.kept,
        parameters_before=done.parameters_before,
        parameters_after=done.parameters_after,
        bytes_before=done.bytes_before,
        bytes_after=done.bytes_after,
        seconds=time.monotonic() - began,
        gguf=pruned_file,
        notes=notes,
        model=original.info,
    )


def _prune_file(context: StageContext, file: Path | None, drop: Sequence[int]) -> tuple[PrunedFile | None, list[str]]:
    """Prune the GGUF file that the model came in, and say where that cannot be done unless it was asked for."""
    asked = context.stage.spec.pruning.gguf
    if file is None or asked is False:
        return None, []
    target = context.out / f"{file.stem}-pruned.gguf"
    try:
        done = prune_gguf_depth(file, target, drop=drop, progress=context.progress)
    except UnsupportedModel as error:
        if asked:
            raise UnsupportedModel(
                error.detail, errors=[FieldError("/pruning/gguf", error.detail, True, "no `gguf`, or other blocks")]
            ) from error
        return None, [f"No GGUF file was written beside the checkpoint. {error.detail}"]
    return PrunedFile(path=target.name, bytes_before=done.bytes_before, bytes_after=done.bytes_after), []


# What each kind of the catalogue runs.
PRUNERS: Mapping[str, Callable[[StageContext, Original], Pruned]] = {
    "depth": prune_blocks,
    "flap": prune_units,
    "llm_pruner": prune_units,
    "sub_block": prune_halves,
    "wanda_sp": prune_units,
}


def run(context: StageContext) -> Pruned:
    """Prune the original model as the spec asks, and write the checkpoint's model card.

    Raises:
        InvalidInput: what is to be removed does not fit the model, or the result could not be quantised as asked.
        BadCheckpoint: the model's files are broken.
        UnsupportedModel: it is quantised, and more is asked than to remove whole blocks.
    """
    original = open_original(context)
    check_quantised(context.stage.spec, Checkpoint.open(original.path).config)
    pruned = PRUNERS[context.stage.spec.pruning.kind](context, original)
    refuse_unquantisable(context, context.out / "checkpoint")
    scores = context.read(SCORE) if context.has(SCORE) else None
    model_card.write(context.out / "checkpoint", pruned=pruned, scores=scores)
    return pruned
