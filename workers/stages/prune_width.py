"""The prune stage for width methods: calibration text in, a checkpoint with narrower blocks out."""

from __future__ import annotations

import time

from secateur.contract.options.width import WidthPruning
from secateur.contract.results import BlockWidth, Pruned
from workers.engine.pruning.width import plan_width, prune_width
from workers.stages.context import StageContext, part
from workers.stages.fields import CALIBRATED_PRUNING, told_at
from workers.stages.original import Original, calibration_tokens, prepare_machine


@part("prune")
@told_at(CALIBRATED_PRUNING)
def prune_units(context: StageContext, original: Original, options: WidthPruning) -> Pruned:
    """Width pruning: heads and neurons go, and every block stays.

    Raises:
        InvalidInput: the calibration text is too short or cannot be read, or the ratio cannot be reached.
        UnsupportedModel: a mixture of experts, quantised weights, or a family whose widths cannot be set.
    """
    began = time.monotonic()
    machine = prepare_machine(context)
    ids, text = calibration_tokens(context, original, machine, options.calibration, pointer="/pruning/calibration")
    done = prune_width(
        original.checkpoint,
        context.out / "checkpoint",
        options=options,
        ids=ids,
        device=machine.device,
        dtype=machine.dtype,
        progress=context.progress,
    )
    return Pruned(
        kind=options.kind,
        dropped=[],
        kept=list(range(len(done.groups))),
        parameters_before=done.parameters_before,
        parameters_after=done.parameters_after,
        bytes_before=done.bytes_before,
        bytes_after=done.bytes_after,
        seconds=time.monotonic() - began,
        widths=[
            BlockWidth(heads=groups * done.queries, key_value_heads=groups, neurons=neurons)
            for groups, neurons in zip(done.groups, done.neurons, strict=True)
        ],
        calibration=text,
        needs_loader=done.needs_loader,
        notes=done.notes,
        model=original.info,
    )


@told_at(CALIBRATED_PRUNING)
def check_width(context: StageContext, original: Original, options: WidthPruning) -> str:
    """Look before a text is read. Raises InvalidInput or UnsupportedModel."""
    plan = plan_width(original.checkpoint, options)
    return f"{plan.layout.groups} groups of heads and {plan.layout.neurons} neurons a block"
