"""The prune stage for halves and whole blocks under one budget: a search for what goes, and a checkpoint without."""

from __future__ import annotations

import time

from secateur.contract.joint import check_joint, units_of
from secateur.contract.options.joint import JointPruning
from secateur.contract.results import JointSearch, JudgedParts, PartChoice, Pruned, TextInfo
from workers.engine.checkpoints.computable import refuse_uncomputable
from workers.engine.pruning.sub_block import prune_sub_block
from workers.engine.pruning.sub_block_layout import halves_layout
from workers.engine.runtime import environment
from workers.engine.scoring.joint import Judged, search_parts
from workers.stages.block_model import block_model
from workers.stages.context import StageContext, part
from workers.stages.fields import CALIBRATED_PRUNING, told_at
from workers.stages.joint_budget import Budget, budget_of
from workers.stages.original import Original, calibration_tokens, prepare_machine

NO_SEARCH = 'a model that this worker can compute with, or halves by name: {"kind": "sub_block", "drop": ["3.mlp"]}'


@part("prune")
@told_at(CALIBRATED_PRUNING)
def prune_jointly(context: StageContext, original: Original, options: JointPruning) -> Pruned:
    """Joint pruning: from each block its attention goes, its MLP, both or nothing.

    Raises:
        InvalidInput: the target is reached as it is, or cannot be; or the calibration text is too short or cannot be
            read.
        UnsupportedModel: a family whose halves are not found by structure, or the weights are quantised for kernels
            that are not here.
    """
    began = time.monotonic()
    check_joint(options, original.info.blocks)
    refuse_uncomputable(original.checkpoint.config, expected=NO_SEARCH)
    budget = budget_of(context, original, options)
    search, text = _search(context, original, options, budget)
    done = prune_sub_block(
        original.checkpoint, context.out / "checkpoint", drop=search.best.units, progress=context.progress
    )
    return Pruned(
        kind=options.kind,
        dropped=done.dropped,
        kept=done.kept,
        units=done.removed,
        joint=search,
        calibration=text,
        parameters_before=done.parameters_before,
        parameters_after=done.parameters_after,
        bytes_before=done.bytes_before,
        bytes_after=done.bytes_after,
        seconds=time.monotonic() - began,
        needs_loader=done.needs_loader,
        decilm=done.decilm,
        model=original.info,
    )


@told_at(CALIBRATED_PRUNING)
def check_choices(context: StageContext, original: Original, options: JointPruning) -> str:
    """Look before anything is measured or searched. Raises InvalidInput or UnsupportedModel."""
    check_joint(options, original.info.blocks)
    halves_layout(original.checkpoint)
    refuse_uncomputable(original.checkpoint.config, expected=NO_SEARCH)
    if options.target.measured:
        return f"of {original.info.blocks} blocks, as much goes as the target takes"
    budget = budget_of(context, original, options)
    return f"{budget.needed:,} {budget.unit} have to go, of {len(budget.parts)} choices"


def _search(
    context: StageContext, original: Original, options: JointPruning, budget: Budget
) -> tuple[JointSearch, TextInfo]:
    began = time.monotonic()
    machine = prepare_machine(context)
    ids, text = calibration_tokens(context, original, machine, options.calibration, pointer="/pruning/calibration")
    found = search_parts(
        block_model(original.checkpoint, machine, original.info.parameters),
        ids,
        budget.parts,
        needed=budget.needed,
        evaluations=options.evaluations,
        progress=context.progress,
    )
    removed = set(found.best.parts)
    costs = budget.costs
    return JointSearch(
        options=options.model_dump(mode="json"),
        unit=budget.unit,
        needed=budget.written(budget.needed),
        parts=[
            PartChoice(
                block=part.block,
                goes=part.goes,
                kl=found.losses[part],
                saved=budget.written(part.saved),
                removed=part in removed,
            )
            for part in budget.parts
        ],
        best=_judged(found.best, budget),
        blocks_alone=None if found.blocks_alone is None else _judged(found.blocks_alone, budget),
        summed=found.summed,
        summed_kl=found.summed_kl,
        foreseen=None if costs is None else costs.foreseen(budget.written(found.best.saved)),
        judged=found.judged,
        searched_tokens=found.tokens[0],
        held_tokens=found.tokens[1],
        protected=list(options.protected),
        seed=context.stage.spec.seed,
        seconds=time.monotonic() - began,
        environment=environment(machine),
    ), text


def _judged(found: Judged, budget: Budget) -> JudgedParts:
    return JudgedParts(
        units=units_of(found.parts), saved=budget.written(found.saved), kl=found.kl, kl_held=found.kl_held
    )
