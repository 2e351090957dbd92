"""Continued pretraining: all weights, next-token loss, a cosine schedule.

What Shortened LLaMA (arXiv 2402.02834, second version) does at high ratios, where it beats LoRA: AdamW with weight
decay, on as many tokens as there are. Weights and optimizer are fp32, and on a GPU the arithmetic is bf16: an update
of 1e-5 of a weight would vanish in bf16's eight bits.
"""

from __future__ import annotations

import torch

from secateur.contract.options.recovery import ContinuedRecovery
from workers.engine.recovery.healing import healed_start
from workers.engine.recovery.instruction_data import training_data
from workers.engine.recovery.job import (
    RecoveryJob,
    RecoveryOutcome,
    run_training,
    schedule_of,
    settings_of,
    trainable_parameters,
    training_notes,
)
from workers.engine.recovery.trained_part import choose_trained
from workers.engine.recovery.weights import check_writable, write_weights


def recover(job: RecoveryJob, options: ContinuedRecovery) -> RecoveryOutcome:
    """Train weights of the pruned checkpoint; write `checkpoint/`.

    Raises:
        InvalidInput: the text is too short or cannot be read, or more blocks are to be trained than there are.
        UnsupportedModel: the checkpoint's form does not take trained weights.
        StageFailed: a loss is not finite.
    """
    data, text = training_data(job, options)
    settings = settings_of(
        options,
        samples=len(data),
        schedule="cosine",
        weight_decay=options.weight_decay,
        gradient_checkpointing=options.gradient_checkpointing,
        autocast=job.machine.dtype is not torch.float32,
    )
    start = healed_start(job, options, data.ids)
    checkpoint = start.checkpoint
    model = job.load_to_train(checkpoint, whole=True)
    chosen = choose_trained(model, options, job.kept)
    check_writable(model, checkpoint)  # refused before the training, not after
    outcome = run_training(job, options, model, data, settings, identity=job.identity(text=text.sha256))
    write_weights(model, checkpoint, job.out / "checkpoint")
    notes = [*start.notes, *chosen, *training_notes(settings, outcome)]
    return RecoveryOutcome(
        text, trainable_parameters(model), outcome, notes, start.healed, schedule_of(settings, outcome)
    )
