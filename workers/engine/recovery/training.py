"""The training loop: gradients added up over micro-batches, snapshots, validation, and the bounds that end it.

A training that is killed and goes on ends with the same weights, to the bit, as one that was not: what a step sees
follows from its number, the generators' states are in the snapshot, and the arithmetic is deterministic (`runtime.py`).
Several processes take the steps that one would (`batches.py`), each holding the model whole or a part of it
(`parallel.py`). What one of them finds out (a loss that is not finite, that time is up) becomes known to all in the
same step, so none is left waiting for another. Why this is no library's loop: docs/decisions/training-loop.md.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.contract.errors import StageFailed
from secateur.contract.results import LossPoint
from secateur.contract.training_steps import total_steps
from workers.engine.progress import Progress, no_progress
from workers.engine.recovery import snapshots
from workers.engine.recovery.batches import Deal, MicroBatch
from workers.engine.recovery.course import Course
from workers.engine.recovery.objective import NEXT_TOKEN, Objective
from workers.engine.recovery.optimizer import clip, learning_rate, make_optimizer, set_learning_rate
from workers.engine.recovery.parallel import gradients_kept_here, make_whole, spread
from workers.engine.recovery.ranks import ALONE, RankDone, Ranks, agree_on, joined, of_first, total, wait_for_all
from workers.engine.recovery.sequences import REAL_TOKENS, Batch, Sequences
from workers.engine.recovery.training_settings import TrainingSettings
from workers.engine.runtime import Machine, seed_everything

SNAPSHOTS_KEPT = 2


@dataclass(frozen=True)
class TrainingOutcome:
    steps: int
    tokens: int  # trained on, all epochs
    curve: list[LossPoint]
    resumed_from: list[int]  # steps at which a killed run went on
    seconds: float  # of training, with those of killed runs up to the snapshots that were resumed
    planned: int  # steps that there would have been, had nothing ended it early
    best_step: int | None = None  # whose weights were taken, where validation chose


@dataclass(frozen=True)
class Training:
    """What is trained, on what and how: all that does not change while it goes on."""

    model: Any  # a transformers or a peft model; what requires a gradient is trained
    data: Sequences
    _: KW_ONLY
    settings: TrainingSettings
    machine: Machine
    scratch: Path  # where snapshots lie; the same folder at the next attempt
    identity: str  # what makes this training this one; a snapshot with another identity is not resumed
    ranks: Ranks = ALONE  # the processes that train together
    validation: Sequences | None = None  # samples whose loss is taken with each snapshot
    objective: Objective = NEXT_TOKEN
    progress: Progress = no_progress
    on_point: Callable[[LossPoint], None] = lambda point: None  # told each new point of the loss curve

    @property
    def steps(self) -> int:
        return total_steps(len(self.data), self.data.ids.shape[1], self.settings)

    @property
    def in_parts(self) -> bool:
        """Whether each process holds a part of the model."""
        return self.settings.shard and self.ranks.count > 1

    def deal(self, samples: int) -> Deal:
        """How so many samples are dealt out to this process."""
        settings, ranks = self.settings, self.ranks
        return Deal(
            samples, settings.batch_size, settings.micro_batch_size, self.machine.seed, ranks.index, ranks.count
        )


def train(training: Training) -> TrainingOutcome:
    """Train what requires a gradient, or go on where a killed run was.

    The best snapshot's weights are left in the model where there is validation, the last one's otherwise.

    Raises:
        StageFailed: a loss or a gradient is not finite, or another rank broke; the last good snapshot is kept.
        RankDone: in another rank than the first, the training is over.
    """
    ranks, snapshot = training.ranks, None
    if ranks.count > 1:
        training = replace(
            training, identity=f"{training.identity} by {ranks.count} processes{', in parts' * training.in_parts}"
        )
    if ranks.first:
        snapshot = snapshots.latest_snapshot(
            training.scratch, identity=training.identity, ranks=ranks.count, parts=training.in_parts
        )
    course = Course() if snapshot is None else Course.from_plain(snapshots.read_state(snapshot)["course"])
    if not course.finished:  # what is finished needs no others
        with joined(ranks, training.machine, training.scratch) if ranks.count > 1 else nullcontext():
            if ranks.count > 1:
                snapshot = _same_start(training, snapshot)
            course = Loop(training, snapshot).run()
        if not ranks.first:
            raise RankDone
    chosen = snapshots.snapshot_of(training.scratch, course.best_step or course.step)
    if training.in_parts:
        make_whole(training.model)
        snapshots.load_whole_weights(chosen, training.model, ranks=ranks.count)
    else:
        snapshots.load_weights(chosen, training.model)
    return TrainingOutcome(
        steps=course.step,
        tokens=course.tokens,
        curve=course.curve,
        resumed_from=course.resumed_from,
        seconds=course.seconds,
        planned=training.steps,
        best_step=course.best_step,
    )


def _same_start(training: Training, snapshot: Path | None) -> Path | None:
    """The snapshot that the first rank found, in each of them, all of which train the same."""
    device, what = training.machine.device, f"{training.identity} {len(training.data)}"
    agree_on(int.from_bytes(hashlib.sha256(what.encode()).digest()[:7]), device)
    step = of_first(-1 if snapshot is None else snapshots.step_of(snapshot), device)
    return None if step < 0 else snapshots.snapshot_of(training.scratch, step)


class Loop:
    """A training, in one of its processes, from a snapshot or the beginning to its end."""

    def __init__(self, training: Training, snapshot: Path | None) -> None:
        self._training = training
        self._began = time.monotonic()
        self._steps = training.steps
        self._device, self._ranks, settings = training.machine.device, training.ranks, training.settings
        seed_everything(training.machine.seed + self._ranks.index)  # each process drops out units of its own
        if self._device.type == "cuda":  # the one attention kernel whose gradients differ from run to run
            torch.backends.cuda.enable_mem_efficient_sdp(False)
        model = training.model
        model.config.use_cache = False  # a cache is for generation, and hides that samples are packed
        if settings.gradient_checkpointing:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        self._module: nn.Module = model  # what is called for gradients
        if self._ranks.count > 1:
            self._module = spread(model, ranks=self._ranks.count, device=self._device, shard=settings.shard)
        self._optimizer = make_optimizer(model, settings)
        self._course = Course() if snapshot is None else self._resume(snapshot)
        self._seconds_before = self._course.seconds

    def run(self) -> Course:
        """Take the steps that are left."""
        training, course = self._training, self._course
        deal, every = training.deal(len(training.data)), training.settings.checkpoint_steps
        while not course.finished:
            rate = learning_rate(course.step, self._steps, training.settings)
            loss, tokens = self._step(deal.of_step(course.step), rate)
            point = course.took(loss, rate=rate, tokens=tokens, steps=self._steps)
            training.progress(course.step, self._steps, "steps")
            if point is not None:
                training.on_point(point)
            course.finished = course.step >= self._steps or self._time_is_up()
            if course.finished or course.step % every == 0:
                self._validate()
                self._save()
        return course

    def _step(self, mine: list[MicroBatch], rate: float) -> tuple[float, int]:
        """One step of the optimizer; its loss, and the tokens that all processes trained on."""
        batches = [self._training.data.batch(each.rows) for each in mine]
        real = [not each.blank for each in mine]
        counts = [self._training.objective.count(batch) * own for batch, own in zip(batches, real, strict=True)]
        seen = sum(int(batch[REAL_TOKENS].sum()) * own for batch, own in zip(batches, real, strict=True))
        count, tokens = self._total(torch.tensor([sum(counts), seen], device=self._device)).tolist()
        self._module.train()
        loss = torch.zeros((), device=self._device)
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            with nullcontext() if last else gradients_kept_here(self._module):
                part = self._loss(self._module, batch)
                # Gradients are averaged over the processes. What counts nothing teaches nothing, as a blank one.
                part = part / (count / self._ranks.count) if counts[number] else part * 0.0
                part.backward()
            loss += part.detach()
        loss = self._total(loss) / self._ranks.count
        self._check("loss", loss)
        self._check("gradient", clip(self._training.model.parameters(), self._training.settings.max_grad_norm))
        set_learning_rate(self._optimizer, rate)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(loss), tokens

    def _loss(self, module: nn.Module, batch: Batch) -> Tensor:
        held = {name: values.to(self._device) for name, values in batch.items()}
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._training.settings.autocast):
            return self._training.objective.loss(module, held)

    @torch.no_grad()
    def _validate(self) -> None:
        """Take the loss of the samples held out: the mean over samples of their micro-batches' losses."""
        training, course = self._training, self._course
        if training.validation is None:
            return
        training.model.eval()
        found = torch.zeros(2, dtype=torch.float64, device=self._device)  # losses, samples
        for each in training.deal(len(training.validation)).in_order():
            batch = training.validation.batch(each.rows)
            loss, count = self._loss(training.model, batch), training.objective.count(batch)
            if count and not each.blank:
                found += torch.stack([loss.double() / count * len(each.rows), found.new_tensor(len(each.rows))])
        losses, samples = self._total(found).tolist()
        loss = losses / max(samples, 1)
        if not math.isfinite(loss):
            raise StageFailed(f"The validation loss is {loss} at step {course.step}.")
        training.on_point(course.validated(loss))
        patience = training.settings.patience
        course.finished |= patience is not None and course.worse >= patience

    def _time_is_up(self) -> bool:
        """As the first process sees it."""
        minutes = self._training.settings.max_minutes
        if minutes is None:
            return False
        up = self.seconds() >= 60 * minutes
        return up if self._ranks.count == 1 else bool(of_first(int(up), self._device))

    def seconds(self) -> float:
        """Of training, those of killed attempts up to the snapshot included."""
        return self._seconds_before + time.monotonic() - self._began

    def _total(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        return value if self._ranks.count == 1 else total(value)

    def _check(self, what: str, value: Tensor) -> None:
        if torch.isfinite(value):
            return
        kept = snapshots.list_snapshots(self._training.scratch)
        last = f"The snapshot of step {snapshots.step_of(kept[-1])} is kept." if kept else "No snapshot was taken yet."
        raise StageFailed(
            f"The {what} is {float(value)} at step {self._course.step + 1} of {self._steps}. {last} "
            'Lower the learning rate, or compute in another dtype ("bfloat16" or "float32" rather than "float16").'
        )

    def _resume(self, snapshot: Path) -> Course:
        holder = self._ranks.index if self._training.in_parts else 0
        snapshots.load_weights(snapshot, self._training.model, rank=holder)
        snapshots.load_optimizer(snapshot, self._optimizer, rank=holder)
        snapshots.load_random(snapshot, rank=self._ranks.index)
        course = Course.from_plain(snapshots.read_state(snapshot)["course"])
        course.resumed_from.append(course.step)
        return course

    def _save(self) -> None:
        """Each process writes what it alone has, and the first the rest."""
        ranks, part = self._ranks, snapshots.part_of(self._training.scratch, self._course.step)
        self._course.seconds = self.seconds()
        if ranks.first:
            snapshots.begin_snapshot(part)
        self._wait()
        snapshots.save_random(part, rank=ranks.index)
        if ranks.first or self._training.in_parts:
            snapshots.save_weights(part, self._training.model, rank=ranks.index)
            snapshots.save_optimizer(part, self._optimizer, rank=ranks.index)
        if ranks.first:
            snapshots.write_state(part, identity=self._training.identity, course=self._course.plain())
        self._wait()
        if ranks.first:
            snapshots.finish_snapshot(part, keep=SNAPSHOTS_KEPT, best=self._course.best_step)

    def _wait(self) -> None:
        if self._ranks.count > 1:
            wait_for_all(self._device)
