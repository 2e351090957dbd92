"""The prune stage for halves of blocks: a search for those that go, and a checkpoint without them.

The search is here and not in the score stage: its scores are of units and not of blocks, and like those of a width
method they serve this pruning alone.
"""

from __future__ import annotations

import time
from typing import Any

from secateur.contract.options.pruning import SubBlockPruning
from secateur.contract.results import Pruned, TextInfo, UnitScore, UnitScores
from secateur.contract.sub_blocks import check_units, protected_units, units_to_remove
from workers.engine.checkpoints.computable import refuse_uncomputable
from workers.engine.pruning.sub_block import SubBlockPruned, prune_sub_block
from workers.engine.pruning.sub_block_layout import halves_layout
from workers.engine.runtime import environment
from workers.engine.scoring.sub_block import score_units
from workers.stages.block_model import block_model
from workers.stages.context import StageContext, part
from workers.stages.fields import CALIBRATED_PRUNING, told_at
from workers.stages.original import Original, calibration_tokens, prepare_machine

NO_SEARCH = 'a model that this worker can compute with, or halves by name, `"drop": ["3.mlp"]`, which need no search'


@part("prune")
@told_at(CALIBRATED_PRUNING)
def prune_halves(context: StageContext, original: Original, options: SubBlockPruning) -> Pruned:
    """Sub-block pruning: the attention of some blocks goes, and the MLP of others.

    Raises:
        InvalidInput: more is to go than may, or the calibration text is too short or cannot be read.
        UnsupportedModel: a family whose halves are not found by structure; or halves are to be searched for, and the
            weights are quantised for kernels that are not here.
    """
    began = time.monotonic()
    check_units(options, original.info.blocks)
    scores, text, drop = None, None, list(options.drop or ())
    if options.drop is None:
        refuse_uncomputable(original.checkpoint.config, expected=NO_SEARCH)
        halves_layout(original.checkpoint)  # refused before the search, not after
        scores, text = _search(context, original, options)
        drop = scores.order[: units_to_remove(options, original.info.blocks)]
    done = prune_sub_block(original.checkpoint, context.out / "checkpoint", drop=drop, progress=context.progress)
    return without_halves(done, original, options.kind, began=began, unit_scores=scores, calibration=text)


def without_halves(done: SubBlockPruned, original: Original, kind: str, *, began: float, **found: Any) -> Pruned:
    """The result of a pruning that took halves of blocks; `found` is what it was chosen by."""
    return Pruned(
        kind=kind,
        dropped=done.dropped,
        kept=done.kept,
        units=done.removed,
        parameters_before=done.parameters_before,
        parameters_after=done.parameters_after,
        bytes_before=done.bytes_before,
        bytes_after=done.bytes_after,
        seconds=time.monotonic() - began,
        needs_loader=done.needs_loader,
        decilm=done.decilm,
        model=original.info,
        **found,
    )


@told_at(CALIBRATED_PRUNING)
def check_halves(context: StageContext, original: Original, options: SubBlockPruning) -> str:
    """Look before anything is searched. Raises InvalidInput or UnsupportedModel."""
    check_units(options, original.info.blocks)
    halves_layout(original.checkpoint)
    if options.drop is None:
        refuse_uncomputable(original.checkpoint.config, expected=NO_SEARCH)
    return f"attention and MLP of {original.info.blocks} blocks can go apart"


def _search(context: StageContext, original: Original, options: SubBlockPruning) -> tuple[UnitScores, TextInfo]:
    began = time.monotonic()
    spec = context.stage.spec
    machine = prepare_machine(context)
    protected = protected_units(options, original.info.blocks)
    ids, text = calibration_tokens(context, original, machine, options.calibration, pointer="/pruning/calibration")
    found = score_units(
        block_model(original.checkpoint, machine, original.info.parameters),
        ids,
        count=units_to_remove(options, original.info.blocks),
        protected=protected,
        progress=context.progress,
    )
    errors = found.standard_errors or [None] * len(found.units)
    scores = UnitScores(
        options=options.model_dump(mode="json"),
        units=[
            UnitScore(unit=unit, value=value, standard_error=error)
            for unit, value, error in zip(found.units, found.values, errors, strict=True)
        ],
        order=found.order,
        protected=protected,
        seed=spec.seed,
        seconds=time.monotonic() - began,
        environment=environment(machine),
        details=found.details,
    )
    return scores, text
