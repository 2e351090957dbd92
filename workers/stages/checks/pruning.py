"""Check of scoring and pruning: the model has what is to go, and its family can spare it."""

from __future__ import annotations

from secateur.contract.depth import check_depth
from secateur.contract.models.quantised import check_quantised
from secateur.contract.options.pruning.depth import DepthPruning
from secateur.contract.options.pruning.sub_block import SubBlockPruning, check_units
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.kernels import NO_SCORING, refuse_uncomputable
from workers.engine.pruning.depth import blocks_to_keep
from workers.engine.pruning.depth_config import keep_blocks
from workers.engine.pruning.sub_block_layout import halves_layout
from workers.engine.pruning.width import plan_width
from workers.stages.checks.subject import Subject
from workers.stages.prune_sub_block import NO_SEARCH
from workers.stages.score import wanted


def look(subject: Subject) -> str:
    """Raises InvalidInput or UnsupportedModel."""
    spec, config, blocks = subject.spec, subject.config, subject.original.info.blocks
    check_quantised(spec, config)
    if isinstance(spec.pruning, DepthPruning):
        check_depth(spec.pruning, blocks, plus=spec.scoring.plus)
        if spec.pruning.drop is not None:
            keep = blocks_to_keep(blocks, spec.pruning.drop)
            keep_blocks(config, keep, architecture_of(config), tensors=subject.checkpoint.names())
            return f"{blocks - len(keep)} of {blocks} blocks can go"
        refuse_uncomputable(config, pointer="/scoring", expected=NO_SCORING)
        count, protected = wanted(spec, blocks)
        return f"{count} of {blocks} blocks go, {len(protected)} are protected"
    if isinstance(spec.pruning, SubBlockPruning):
        check_units(spec.pruning, blocks)
        halves_layout(subject.checkpoint)
        if spec.pruning.drop is None:
            refuse_uncomputable(config, pointer="/pruning", expected=NO_SEARCH)
        return f"attention and MLP of {blocks} blocks can go apart"
    plan = plan_width(subject.checkpoint, spec.pruning)
    return f"{plan.layout.groups} groups of heads and {plan.layout.neurons} neurons a block"
