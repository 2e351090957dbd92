"""The score stage: judges every block, and chooses those to remove."""

from __future__ import annotations

import time

from secateur.contract.depth import blocks_to_remove
from secateur.contract.models.quantised import check_quantised
from secateur.contract.options.pruning.depth import DepthPruning
from secateur.contract.options.scoring.blocks import TextScoring
from secateur.contract.results import BlockScore, Scores
from secateur.contract.spec import CompressionSpec
from workers.engine.checkpoints.kernels import NO_SCORING, refuse_uncomputable
from workers.engine.pruning.plan import check_count, choose, count_from_ratio, protected_by_plus
from workers.engine.runtime import environment
from workers.engine.scoring.registry import score
from workers.engine.scoring.task import ScoringTask
from workers.stages.block_model import block_model
from workers.stages.context import StageContext
from workers.stages.original import calibration_tokens, open_original, prepare_machine


def run(context: StageContext) -> Scores:
    """Score the original's blocks by the spec's criterion.

    Raises:
        InvalidInput: more blocks are to go than may, or the calibration text is too short.
        UnsupportedModel: the model is quantised, and this machine has no kernels for it.
    """
    began = time.monotonic()
    spec = context.stage.spec
    machine = prepare_machine(context)
    original = open_original(context)
    config = original.checkpoint.config
    check_quantised(spec, config)
    refuse_uncomputable(config, pointer="/scoring", expected=NO_SCORING)
    count, protected = wanted(spec, original.info.blocks)
    ids, text = None, None
    if isinstance(spec.scoring, TextScoring):
        calibration = spec.scoring.calibration
        ids, text = calibration_tokens(context, original, machine, calibration, pointer="/scoring/calibration")
    with context.part("score the blocks"):
        scores = score(
            ScoringTask(
                block_model(original.path, machine, original.info.parameters),
                ids,
                spec.scoring,
                count=count if spec.scoring.searches else None,
                protected=protected,
                progress=context.progress,
                seed=spec.seed,
            )
        )
    errors = scores.standard_errors or [None] * len(scores.values)
    return Scores(
        criterion=spec.scoring.criterion,
        options=spec.scoring.model_dump(mode="json"),
        blocks=[
            BlockScore(block=block, value=value, standard_error=error)
            for block, (value, error) in enumerate(zip(scores.values, errors, strict=True))
        ],
        order=scores.order,
        protected=sorted(protected),
        drop=sorted(choose(scores, count=count, protected=protected)),
        calibration=text,
        model=original.info,
        seed=spec.seed,
        seconds=time.monotonic() - began,
        environment=environment(machine),
        details=scores.details,
    )


def wanted(spec: CompressionSpec, blocks: int) -> tuple[int, frozenset[int]]:
    """How many blocks go, and which may not.

    Raises:
        InvalidInput: so many cannot go.
    """
    protected = protected_by_plus(blocks) if spec.scoring.plus else frozenset()
    pruning = spec.pruning
    assert isinstance(pruning, DepthPruning), "only whole blocks are scored"
    count = blocks_to_remove(pruning, blocks) if pruning.ratio is None else count_from_ratio(blocks, pruning.ratio)
    check_count(blocks, count=count, protected=protected)
    return count, protected
