"""The score stage: judges every block. Which of them go by that is chosen by the prune stage.

So jobs that differ in how much goes share one scoring. A criterion that searches for a set of blocks is told how many
go and which may not, and its scores are for just that.
"""

from __future__ import annotations

import time

from secateur.contract.models.quantised import check_quantised
from secateur.contract.options.scoring import OF_THE_CHOICE, TextScoring
from secateur.contract.results import BlockScore, Scored
from workers.engine.checkpoints.computable import refuse_uncomputable
from workers.engine.runtime import environment
from workers.engine.scoring.task import ScoringTask, score_blocks
from workers.stages.block_model import block_model
from workers.stages.choice import NO_SCORING, wanted
from workers.stages.context import StageContext
from workers.stages.fields import MODEL, PRUNING, told_in
from workers.stages.original import calibration_tokens, open_original, prepare_machine

FIELDS = {**MODEL, **PRUNING, "calibration": "/scoring/calibration", "weights": "/scoring"}


@told_in("/scoring", FIELDS)
def run(context: StageContext) -> Scored:
    """Score the original's blocks by the spec's criterion.

    Raises:
        InvalidInput: the calibration text is too short, or a search is to remove more blocks than may go.
        UnsupportedModel: the model is quantised, and this machine has no kernels for it.
    """
    began = time.monotonic()
    spec = context.stage.spec
    machine = prepare_machine(context)
    original = open_original(context)
    config = original.checkpoint.config
    check_quantised(spec, config)
    refuse_uncomputable(config, expected=NO_SCORING)
    searches = spec.scoring.searches
    count, protected = wanted(context, original) if searches else (None, frozenset[int]())
    ids, text = None, None
    if isinstance(spec.scoring, TextScoring):
        calibration = spec.scoring.calibration
        ids, text = calibration_tokens(context, original, machine, calibration, pointer="/scoring/calibration")
    with context.part("score the blocks"):
        scores = score_blocks(
            ScoringTask(
                block_model(original.checkpoint, machine, original.info.parameters),
                ids,
                spec.scoring,
                count=count,
                protected=protected,
                progress=context.progress,
                seed=spec.seed,
            )
        )
    errors = scores.standard_errors or [None] * len(scores.values)
    return Scored(
        criterion=spec.scoring.criterion,
        options=spec.scoring.model_dump(mode="json", exclude={*OF_THE_CHOICE, *(() if searches else ("plus",))}),
        blocks=[
            BlockScore(block=block, value=value, standard_error=error)
            for block, (value, error) in enumerate(zip(scores.values, errors, strict=True))
        ],
        order=scores.order,
        calibration=text,
        model=original.info,
        seed=spec.seed,
        seconds=time.monotonic() - began,
        environment=environment(machine),
        details=scores.details,
    )
