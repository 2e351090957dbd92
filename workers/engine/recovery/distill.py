"""Distillation: the pruned model learns to predict what the original predicts; a draft, what its target does.

Forward KL divergence between the two next-token distributions (Hinton et al. 2015, arXiv 1503.02531; Minitron,
arXiv 2407.14679, heals pruned models so). Next-token loss pulls towards the training text, and this pulls towards the
original, whatever the text. The original's top predictions are computed once and stored on disk (`teacher.py`).

With `hidden_weight`, the states that enter each kept block are held to those of the original too: the mean over
blocks of the squared distance over the original's mean square. The original then runs at every step, beside the
student.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateur.contract.errors import UnsupportedModel
from secateur.contract.numbers import size
from secateur.contract.options.recovery import DistillRecovery
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import free_memory
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
from workers.engine.recovery.lora import add_adapters, notes_on, save_adapter, write_merged
from workers.engine.recovery.objective import IGNORED, Objective, next_labels, once, predicted_tokens
from workers.engine.recovery.packed_predictions import PackedForm
from workers.engine.recovery.quick_adapters import quick_adapters
from workers.engine.recovery.sequences import LABELS, Sequences
from workers.engine.recovery.teacher import (
    PREDICTIONS,
    divergences,
    stored_predictions,
)
from workers.engine.recovery.trained_part import OWN_WEIGHTS, choose_trained
from workers.engine.recovery.weights import check_writable, write_weights
from workers.engine.runtime import available_memory

# Of a parameter that is trained: fp32 weight and gradient, and the optimizer's two moments.
TRAINING_BYTES = {"adamw": 16, "adamw_8bit": 10}
BUCKET_BYTES = 4  # where several processes train together: the gradient again, on its way to the others
PREDICTIONS_SHARE = 0.25  # of the minutes that are left when they begin
MEMORY_SHARE = 0.6  # of the free memory; the rest is for states and logits


def recover(job: RecoveryJob, options: DistillRecovery) -> RecoveryOutcome:
    """Distil the original into the pruned checkpoint; write `checkpoint/` and, with adapters, `adapter/`.

    Raises:
        InvalidInput: the text is too short or cannot be read.
        UnsupportedModel: the checkpoint's form does not take trained weights.
        StageFailed: a loss is not finite.
    """
    data, text = training_data(job, options)
    settings = settings_of(options, samples=len(data), schedule="cosine")
    start = healed_start(job, options, data.ids)
    identity = job.identity(text=text.sha256)
    data = with_predictions(job, options, data, identity=identity)
    checkpoint = start.checkpoint
    model, whole, about = trainee(job, options, checkpoint)
    notes = [*start.notes, *about]
    settings = replace(settings, autocast=whole and job.machine.dtype is not torch.float32)
    masked = LABELS in data.columns
    objective = Objective(DistillationLoss(job, options, masked=masked), predicted_tokens if masked else once)
    with quick_adapters(model):
        outcome = run_training(job, options, model, data, settings, identity=identity, objective=objective)
    trained = trainable_parameters(model)
    if whole:
        write_weights(model, checkpoint, job.out / "checkpoint")
    else:
        save_adapter(model, job.out / "adapter")
        write_merged(model, checkpoint, job.out / "checkpoint")
    notes += training_notes(settings, outcome)
    return RecoveryOutcome(text, trained, outcome, notes, start.healed, schedule_of(settings, outcome))


def trainee(job: RecoveryJob, options: DistillRecovery, start: Checkpoint) -> tuple[Any, bool, list[str]]:
    """The model to train, whether its own weights are trained (adapters on it otherwise), and notes.

    Raises:
        UnsupportedModel: its weights were asked for, and the checkpoint's form does not take them.
    """
    notes: list[str] = []
    whole, why = options.train in OWN_WEIGHTS, ""
    if options.train == "auto":
        whole, why = _room_for_all(job, options, start)
    if whole:
        model: Any = job.load_to_train(start, whole=True)
        notes += choose_trained(model, options, job.kept)
        try:
            check_writable(model, start)  # refused before the training, not after
        except UnsupportedModel as error:
            if options.train != "auto":
                raise
            why = error.detail
            del model
            free_memory()
        else:
            return model, True, notes
    if why:
        notes.append(f"Adapters were trained and not all weights. {why}")
    model = job.load_to_train(start)
    notes += notes_on(model)
    return add_adapters(model, options, seed=job.machine.seed), False, notes


def _room_for_all(job: RecoveryJob, options: DistillRecovery, start: Checkpoint) -> tuple[bool, str]:
    """Whether all weights can be trained in the memory that is free, and why not; the next attempt decides the same."""

    def look() -> tuple[bool, str]:
        parameters = sum(math.prod(start.shape(name)) for name in start.names())
        each, count = TRAINING_BYTES[options.optimizer], job.ranks.count
        if job.in_parts:  # and loaded whole into the host's memory, once for each process
            needed = parameters * (max(each, 4 * count) if job.machine.device.type == "cpu" else each / count)
        else:
            sharing = count if job.machine.device.type == "cpu" else 1  # of the machine's memory
            needed = parameters * sharing * (each + (BUCKET_BYTES if count > 1 else 0))
        free = available_memory(job.machine.device)
        if needed <= MEMORY_SHARE * free:
            return True, ""
        return False, f"All of them take {size(needed)} and room to compute in; {size(free)} were free."

    enough, why = job.remembered("room.json", look)
    return enough, why


def with_predictions(job: RecoveryJob, options: DistillRecovery, data: Sequences, *, identity: str) -> Sequences:
    """The training text with the original's top predictions on it, from an earlier attempt where there was one.

    Where minutes are bounded, a part of them is for the predictions: a step costs some three times what they do, so the
    training then comes about as far as they go. The samples are taken in random order, as the training takes them.

    Raises:
        InvalidInput: the disk has no room for the predictions.
    """
    ids, columns = data.ids, data.columns
    if job.clock.limit is not None:
        order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(job.machine.seed))
        ids, columns = ids[order], {name: values[order] for name, values in columns.items()}
    folder = job.scratch / f"teacher-{identity[:16]}"
    with job.clock.part("predictions", job.progress, units=()) as progress:
        most, began = PREDICTIONS_SHARE * (job.clock.left() or 0.0), time.monotonic()
        found = stored_predictions(
            folder,
            job.teacher_blocks,
            ids,
            vocabulary=job.vocabulary,
            top_k=options.top_k,
            temperature=options.temperature,
            enough=lambda: job.clock.limit is not None and time.monotonic() - began >= most,
            progress=progress,
            log=job.log,
        )
    free_memory()
    count = found.samples
    return Sequences(ids[:count], {**{name: values[:count] for name, values in columns.items()}, **found.columns})


class DistillationLoss:
    """The loss of a micro-batch; holds the original where its states are asked for."""

    def __init__(self, job: RecoveryJob, options: DistillRecovery, *, masked: bool = False) -> None:
        """With `masked` it is the sum over the labelled tokens' predictions; the mean over all otherwise."""
        self._masked = masked
        self._options = options
        self._kept = job.kept
        self._vocabulary = job.vocabulary
        self._form = PackedForm.of(options.top_k, job.vocabulary)
        self._teacher: PreTrainedModel | None = job.load(job.original) if options.hidden_weight else None

    def __call__(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        ids = inputs["input_ids"]
        out = model(input_ids=ids, output_hidden_states=self._teacher is not None)
        theirs = self._form.unpack(inputs[PREDICTIONS])
        divergence = divergences(out.logits[..., : self._vocabulary], *theirs, temperature=self._options.temperature)
        learnt = next_labels(inputs) != IGNORED
        loss = (divergence * learnt).sum() if self._masked else divergence.mean()
        if self._teacher is None:
            return loss
        with torch.no_grad(), torch.autocast(ids.device.type, enabled=False):  # it has a dtype of its own
            target = self._teacher(input_ids=ids, output_hidden_states=True).hidden_states
        distance = self._options.hidden_weight * state_distance(out.hidden_states, target, self._kept)
        return loss + distance * (learnt.sum() if self._masked else 1)


def state_distance(student: tuple[Tensor, ...], teacher: tuple[Tensor, ...], kept: tuple[int, ...]) -> Tensor:
    """Mean over the kept blocks but the first of ‖student - teacher‖² / ‖teacher‖², of the states that enter them.

    What leaves the block before a cut is so held to what the original has after the cut, as healing does too.

    Args:
        student: states before the first block and after each, (samples, tokens, hidden); the last of them is after
            the final norm, as transformers has it, and is left out: the logits are compared already.
        teacher: the same of the original.
        kept: for each of the student's blocks, which of the original's it is.
    """
    distances = []
    for block, source in enumerate(kept[1:], start=1):
        ours, theirs = student[block].float(), teacher[source].float()
        distances.append((ours - theirs).square().mean() / theirs.square().mean())
    return torch.stack(distances).mean() if distances else student[0].new_zeros(())
