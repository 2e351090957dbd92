"""The prune stage for halves and whole blocks under one budget: a search for what goes, and a checkpoint without."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from secateur.contract.joint import check_joint, units_of
from secateur.contract.models.quantised import quantised_by
from secateur.contract.options.joint import JointPruning
from secateur.contract.results import HealedCut, JointSearch, JudgedParts, PartChoice, Pruned, TextInfo
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.computable import refuse_uncomputable
from workers.engine.healing.changed_weights import names_in_blocks, write_changes
from workers.engine.healing.halves import heal_halves
from workers.engine.model.block_model import BlockModel
from workers.engine.pruning.sub_block import SubBlockPruned, halves_to_remove, prune_sub_block
from workers.engine.pruning.sub_block_layout import halves_layout
from workers.engine.runtime import Machine, environment
from workers.engine.scoring.joint import Judged, search_parts
from workers.stages.block_model import block_model
from workers.stages.context import StageContext, part
from workers.stages.fields import CALIBRATED_PRUNING, told_at
from workers.stages.joint_budget import Budget, budget_of
from workers.stages.original import Original, calibration_tokens, prepare_machine
from workers.stages.prune_sub_block import without_halves

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
    budget, machine = budget_of(context, original, options), prepare_machine(context)
    model = block_model(original.checkpoint, machine, original.info.parameters)
    search, text = _search(context, original, machine, model, options, budget)
    target, quantised = context.out / "checkpoint", quantised_by(original.checkpoint.config) is not None
    heals = options.healing is not None and not quantised
    written = context.scratch / "unhealed" if heals else target
    shutil.rmtree(written, ignore_errors=True)  # of an attempt that was killed
    done = prune_sub_block(original.checkpoint, written, drop=search.best.units, progress=context.progress)
    if heals:
        fits = _heal(context, original, machine, model, options, done, written)
        search = search.model_copy(update={"healed": fits})
        shutil.rmtree(written)
    return without_halves(done, original, options.kind, began=began, joint=search, calibration=text)


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


def _heal(
    context: StageContext,
    original: Original,
    machine: Machine,
    model: BlockModel,
    options: JointPruning,
    done: SubBlockPruned,
    written: Path,
) -> list[HealedCut]:
    """Fit what is left of blocks, and write the checkpoint with what helps."""
    assert options.healing is not None, "only then it is healed"
    ids, _ = calibration_tokens(context, original, machine, options.healing, pointer="/pruning/healing")
    pruned = Checkpoint.open(written)
    names = names_in_blocks(pruned, done.kept)
    gone = halves_to_remove(original.info.blocks, done.removed)
    with context.part("heal"), told_at({"calibration": "/pruning/healing"}):
        fits = heal_halves(
            model, gone, ids, changeable=lambda block, name: (block, name) in names, progress=context.progress
        )
    write_changes(pruned, names, {fit.block: fit.change for fit in fits if fit.helps}, context.out / "checkpoint")
    return [
        HealedCut(
            block=fit.block,
            last=fit.last,
            ridge=fit.ridge,
            error_before=fit.error_before,
            error_after=fit.error_after,
            kl_before=fit.kl_before,
            kl_after=fit.kl_after,
            folded=fit.helps,
        )
        for fit in fits
    ]


def _search(
    context: StageContext,
    original: Original,
    machine: Machine,
    model: BlockModel,
    options: JointPruning,
    budget: Budget,
) -> tuple[JointSearch, TextInfo]:
    began = time.monotonic()
    ids, text = calibration_tokens(context, original, machine, options.calibration, pointer="/pruning/calibration")
    found = search_parts(
        model,
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
