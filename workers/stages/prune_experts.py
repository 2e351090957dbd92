"""The prune stage for experts: calibration text in, a checkpoint with smaller mixtures out."""

from __future__ import annotations

import time

from secateur.contract.options.pruning import ExpertPruning
from secateur.contract.results import KeptExperts, MixtureExperts, Pruned
from workers.engine.pruning.experts import plan_experts, prune_experts
from workers.stages.context import StageContext, part
from workers.stages.fields import CALIBRATED_PRUNING, told_at
from workers.stages.original import Original, calibration_tokens, prepare_machine


@part("prune")
@told_at(CALIBRATED_PRUNING)
def prune_mixtures(context: StageContext, original: Original, options: ExpertPruning) -> Pruned:
    """Expert pruning: every mixture loses as many experts, and every block stays.

    Raises:
        InvalidInput: the calibration text is too short or cannot be read, or no expert would be left.
        UnsupportedModel: the model is no mixture, or one whose experts are not found by structure.
    """
    began = time.monotonic()
    plan = plan_experts(original.checkpoint, options)  # refused before a text is written or read, not after
    machine = prepare_machine(context)
    ids, text = calibration_tokens(context, original, machine, options.calibration, pointer="/pruning/calibration")
    done = prune_experts(
        original.checkpoint,
        context.out / "checkpoint",
        plan=plan,
        criterion=options.criterion,
        ids=ids,
        device=machine.device,
        dtype=machine.dtype,
        progress=context.progress,
    )
    return Pruned(
        kind=options.kind,
        dropped=[],
        kept=list(range(original.info.blocks)),
        experts=KeptExperts(
            criterion=options.criterion,
            before=plan.layout.count,
            after=plan.left,
            per_token=plan.per_token,
            mixtures=[
                MixtureExperts(block=block, kept=kept, scores=done.scores[block]) for block, kept in done.kept.items()
            ],
        ),
        parameters_before=done.parameters_before,
        parameters_after=done.parameters_after,
        bytes_before=done.bytes_before,
        bytes_after=done.bytes_after,
        seconds=time.monotonic() - began,
        calibration=text,
        notes=done.notes,
        model=original.info,
    )


@told_at(CALIBRATED_PRUNING)
def check_mixtures(context: StageContext, original: Original, options: ExpertPruning) -> str:
    """Look before a text is read. Raises InvalidInput or UnsupportedModel."""
    plan = plan_experts(original.checkpoint, options)
    layout = plan.layout
    return f"{layout.count - plan.left} of {layout.count} experts go in each of {len(layout.mixtures)} blocks"
