"""The prune stage for halves and whole blocks under one budget: a search for what goes, and a checkpoint without."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

from secateur.contract.errors import StageFailed
from secateur.contract.joint import check_joint, units_of
from secateur.contract.models.quantised import quantised_by
from secateur.contract.options.joint import JointPruning
from secateur.contract.results import HealedCut, JointSearch, JudgedParts, PartChoice, Pruned
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.computable import refuse_uncomputable
from workers.engine.healing.changed_weights import names_in_blocks, write_changes
from workers.engine.healing.halves import HealedHalves, heal_halves
from workers.engine.healing.projections import BlockChange
from workers.engine.model.block_model import BlockModel
from workers.engine.pruning.sub_block import halves_to_remove, prune_sub_block
from workers.engine.pruning.sub_block_layout import halves_layout
from workers.engine.runtime import Machine, environment
from workers.engine.scoring.joint import JointFound, Judged, search_parts
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
    ids, text = calibration_tokens(context, original, machine, options.calibration, pointer="/pruning/calibration")
    began_search = time.monotonic()
    found = search_parts(
        model,
        ids,
        budget.parts,
        needed=budget.needed,
        evaluations=options.evaluations,
        progress=context.progress,
    )
    searched = time.monotonic() - began_search
    tried = _healed(context, original, machine, model, options, found)
    _check_numbers(tried)
    went = min(tried, key=lambda each: each.kl)  # of equally near ones the first, which the search found nearest
    target = context.out / "checkpoint"
    written = context.scratch / "unhealed" if went.changes else target
    shutil.rmtree(written, ignore_errors=True)  # of an attempt that was killed
    done = prune_sub_block(original.checkpoint, written, drop=units_of(went.judged.parts), progress=context.progress)
    if went.changes:
        pruned = Checkpoint.open(written)
        write_changes(pruned, names_in_blocks(pruned, done.kept), went.changes, target)
        shutil.rmtree(written)
    costs, removed = budget.costs, set(went.judged.parts)
    first, *others = (each.told(budget) for each in tried)
    search = JointSearch(
        options=options.model_dump(mode="json"),
        unit=budget.unit,
        needed=budget.written(budget.needed),
        parts=[
            PartChoice(
                block=each.block,
                goes=each.goes,
                kl=found.losses[each],
                saved=budget.written(each.saved),
                removed=each in removed,
            )
            for each in budget.parts
        ],
        best=went.told(budget),
        blocks_alone=others[0] if others else (None if found.blocks_alone is None else first),
        set_aside=None if went is tried[0] else first,
        summed=found.summed,
        summed_kl=found.summed_kl,
        healed=went.fits_told,
        foreseen=None if costs is None else costs.foreseen(budget.written(went.judged.saved)),
        judged=found.judged,
        searched_tokens=found.tokens[0],
        held_tokens=found.tokens[1],
        protected=list(options.protected),
        seed=context.stage.spec.seed,
        seconds=searched,
        environment=environment(machine),
    )
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


@dataclass(frozen=True)
class _Tried:
    """A choice with what healing gives back to it."""

    judged: Judged
    healed: HealedHalves | None  # None: nothing is fitted

    @property
    def kl(self) -> float:
        """From the original, on held-out samples: of the healing's text, or of the search's where nothing is healed."""
        return self.judged.kl_held if self.healed is None else self.healed.kl

    @property
    def changes(self) -> dict[int, BlockChange]:
        return {} if self.healed is None else {fit.block: fit.change for fit in self.healed.fits if fit.helps}

    @property
    def fits_told(self) -> list[HealedCut]:
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
            for fit in ([] if self.healed is None else self.healed.fits)
        ]

    def told(self, budget: Budget) -> JudgedParts:
        return JudgedParts(
            units=units_of(self.judged.parts),
            saved=budget.written(self.judged.saved),
            kl=self.judged.kl,
            kl_held=self.judged.kl_held,
            kl_healed=None if self.healed is None else self.healed.kl,
        )


def _check_numbers(tried: Sequence[_Tried]) -> None:
    """Raise StageFailed over a divergence that is not finite: it has no place in an order."""
    if not all(math.isfinite(kl) for each in tried for kl in (each.kl, each.judged.kl_held)):
        raise StageFailed(
            "What a pruned model predicts is not finite on held-out samples. The weights are broken, or the "
            'arithmetic overflowed: prune in "float32" or "bfloat16".'
        )


def _healed(
    context: StageContext,
    original: Original,
    machine: Machine,
    model: BlockModel,
    options: JointPruning,
    found: JointFound,
) -> list[_Tried]:
    """What the search found nearest, then the best of whole blocks alone, each fitted to what it has lost."""
    choices = [found.best]
    if found.blocks_alone is not None and found.blocks_alone.parts != found.best.parts:
        choices.append(found.blocks_alone)
    if options.healing is None or quantised_by(original.checkpoint.config) is not None:
        return [_Tried(choice, None) for choice in choices]
    ids, _ = calibration_tokens(context, original, machine, options.healing, pointer="/pruning/healing")
    count = original.info.blocks
    names = names_in_blocks(original.checkpoint, range(count))
    tried = []
    with context.part("heal"), told_at({"calibration": "/pruning/healing"}):
        for choice in choices:
            gone = halves_to_remove(count, units_of(choice.parts))
            healed = heal_halves(
                model, gone, ids, changeable=lambda block, name: (block, name) in names, progress=context.progress
            )
            tried.append(_Tried(choice, healed))
    return tried
