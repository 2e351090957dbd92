"""Check of the recovery: this machine has what its options need, and the method holds for the family."""

from __future__ import annotations

from secateur.contract.depth import blocks_to_remove
from secateur.contract.models.quantised import quantised_by
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.recovery import ContinuedRecovery, DistillRecovery, HealingRecovery, LoraRecovery
from secateur.contract.options.training import TrainedRecovery
from workers.engine.architectures.registry import architecture_of
from workers.engine.healing.neurons import check_neurons
from workers.engine.pruning.depth import blocks_to_keep
from workers.engine.recovery.job import check_optimizer
from workers.engine.recovery.lora import check_adapters
from workers.engine.recovery.trained_part import OWN_WEIGHTS, check_last_blocks
from workers.engine.recovery.weights import refuse_unwritable
from workers.stages.checks.subject import Subject
from workers.stages.choice import wanted
from workers.stages.training_processes import refuse_shard


def look(subject: Subject) -> str | None:
    """Raises InvalidInput or UnsupportedModel."""
    options = subject.spec.recovery
    if options.kind == "none":
        return None
    if isinstance(options, TrainedRecovery):
        check_optimizer(options)
        processes = subject.context.stage.runtime.training_processes
        refuse_shard(options, options.batch_size if processes == "auto" else processes)  # GPUs are counted later
    if quantised_by(subject.config) is not None:  # which the check of the pruning has refused
        return options.kind
    if isinstance(options, LoraRecovery):
        check_adapters(subject.config, options)
    if isinstance(options, HealingRecovery):
        check_neurons(architecture_of(subject.config), options.neurons)
    if isinstance(options, DistillRecovery | ContinuedRecovery) and options.train in OWN_WEIGHTS:
        refuse_unwritable(subject.checkpoint, blocks=None if options.train == "all" else _one_of_them(subject))
        if options.train == "last_blocks":
            check_last_blocks(options.last_blocks, subject.original.info.blocks - _gone(subject))
    return options.kind


def _gone(subject: Subject) -> int:
    """How many blocks go. Raises InvalidInput where no depth reaches the target, as the check of the pruning does."""
    pruning = subject.spec.pruning
    if not isinstance(pruning, DepthPruning):
        return 0
    if pruning.left_open:
        return 1  # at least; the recovery looks again
    if pruning.target is not None:
        return wanted(subject.context, subject.original)[0]
    return blocks_to_remove(pruning, subject.original.info.blocks)


def _one_of_them(subject: Subject) -> list[int]:
    """The last of the blocks that stay, which is trained whatever the cut; all, where scores choose which stay."""
    pruning, blocks = subject.spec.pruning, subject.original.info.blocks
    if not isinstance(pruning, DepthPruning):
        return [blocks - 1]
    if pruning.drop is None:
        return list(range(blocks))
    return blocks_to_keep(blocks, pruning.drop)[-1:]
