"""A finalist of the choice after healing: the pruned and healed model distilled for a few steps, to be judged again.

Healing fits one block before each cut. What a training then makes of the model can put two near sets into another
order, and a few steps tell that for a small part of a recovery's time. Adapters on all projections are trained towards
the original's predictions on the samples that healing was fitted on (`distill.py`); nothing of it is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from secateur.contract.options.recovery import DistillRecovery
from secateur.contract.options.scoring import FINALIST_BATCH
from workers.engine.architectures.registry import architecture_of
from workers.engine.healing.projections import BlockChange
from workers.engine.model.batches import batches
from workers.engine.model.block_model import BlockModel
from workers.engine.recovery.distill import DistillationLoss
from workers.engine.recovery.job import RecoveryJob, run_training, settings_of
from workers.engine.recovery.lora import add_adapters
from workers.engine.recovery.objective import Objective, once
from workers.engine.recovery.quick_adapters import quick_adapters
from workers.engine.recovery.sequences import Sequences

LEARNING_RATE = 1e-3  # at the peak


def finalist_options(*, steps: int, tokens: int) -> DistillRecovery:
    """How a finalist is distilled."""
    return DistillRecovery(
        train="lora",
        heal=False,  # it is
        learning_rate=LEARNING_RATE,
        batch_size=FINALIST_BATCH,
        micro_batch_size=FINALIST_BATCH,
        epochs=1000,
        max_steps=steps,
        tokens=tokens,
    )


def distilled_states(
    job: RecoveryJob, options: DistillRecovery, healed: Mapping[int, BlockChange], data: Sequences, held: Tensor
) -> tuple[list[Tensor], int]:
    """The states in which the distilled model leaves samples, in pieces of (samples, tokens, hidden), and its steps.

    Args:
        healed: block of the original → what is added to its parameters before the training.
        data: samples with the original's predictions on them.
        held: other samples, (samples, tokens).

    Raises:
        UnsupportedModel: no adapters can be put on the model.
        StageFailed: a loss is not finite.
    """
    model = job.load_to_train(job.pruned)
    blocks = model.get_submodule(architecture_of(model.config).blocks_prefix)
    for block, change in healed.items():
        _add(blocks.get_submodule(str(job.kept.index(block))), change)
    adapted = add_adapters(model, options, seed=job.machine.seed)
    settings = settings_of(options, samples=len(data), schedule="cosine")
    identity = job.identity(ids=hashlib.sha256(data.ids.numpy().tobytes()).hexdigest())
    objective = Objective(DistillationLoss(job, options), once)
    with quick_adapters(adapted):
        done = run_training(job, options, adapted, data, settings, identity=identity, objective=objective)
        return _states(BlockModel.from_model(model), held), done.steps


def _add(module: nn.Module, change: BlockChange) -> None:
    for name, added in change.items():
        parameter = module.get_parameter(name)
        parameter.data = (parameter.data.float() + added.to(parameter.device)).to(parameter.dtype)  # a file is mapped


@torch.no_grad()
def _states(model: BlockModel, ids: Tensor) -> list[Tensor]:
    states = [model.embed(piece) for _, piece in batches(ids)]
    for block in model.blocks():
        states = [block(state) for state in states]
    return states
