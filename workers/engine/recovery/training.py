"""Training for recovery, on transformers' Trainer, with exact resumption.

The Trainer brings the loop, gradient accumulation with the loss averaged over tokens, schedules and `accelerate`;
this module replaces how it saves and resumes (`snapshots.py`), stops at the first loss that is not a number, and
gives the loss curve. A training that is killed and goes on ends with the same weights, to the bit, as one that was
not: the order of samples comes from the seed, the generators' states are in the snapshot, and the arithmetic is
deterministic (`runtime.py`). Extending the Trainer means overriding some of its private methods; the version is
pinned, and a test kills a real process (docs/decisions/training-snapshots.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    default_data_collator,
)

from app.domain.results import LossPoint
from app.errors import StageFailed
from workers.engine.progress import Progress, no_progress
from workers.engine.recovery import snapshots
from workers.engine.runtime import Machine, seed_everything

CURVE_POINTS = 500  # at most so many points of the loss curve
SNAPSHOTS_KEPT = 2
_TRAINER_STATE = "trainer_state.json"

Loss = Callable[[nn.Module, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; what is trained is which parameters of the model require a gradient."""

    learning_rate: float
    batch_size: int
    micro_batch_size: int
    epochs: float
    warmup_steps: int
    checkpoint_steps: int
    max_steps: int | None = None
    schedule: Literal["linear", "cosine"] = "linear"
    max_grad_norm: float = 1.0


@dataclass(frozen=True)
class TrainingOutcome:
    steps: int
    tokens: int  # trained on, all epochs
    curve: list[LossPoint]
    resumed_from: list[int]  # steps at which a killed run went on
    seconds: float  # of training, with those of killed runs up to the snapshots that were resumed


class Sequences(Dataset[dict[str, Tensor]]):
    """Packed samples for next-token training: the labels are the tokens themselves; the model shifts them."""

    def __init__(self, ids: Tensor, extra: Mapping[str, Tensor] | None = None) -> None:
        """`ids` is (samples, tokens); `extra` holds tensors with the same first dimension."""
        self.ids = ids
        self.extra = dict(extra or {})

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = {"input_ids": self.ids[index], "labels": self.ids[index]}
        return {**row, **{name: values[index] for name, values in self.extra.items()}}


def total_steps(samples: int, settings: TrainingSettings) -> int:
    """Optimizer steps of the whole training: the epochs', or `max_steps` where that is less."""
    steps = max(1, math.ceil(settings.epochs * math.ceil(samples / settings.batch_size)))
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def samples_seen(samples: int, steps: int, batch_size: int) -> int:
    """Samples, counted every time, of the first `steps` steps; an epoch's last batch may be short."""
    epochs, rest = divmod(steps, math.ceil(samples / batch_size))
    return epochs * samples + min(rest * batch_size, samples)


def train(
    model: PreTrainedModel | nn.Module,
    data: Sequences,
    *,
    settings: TrainingSettings,
    machine: Machine,
    scratch: Path,
    identity: str,
    loss: Loss | None = None,
    progress: Progress = no_progress,
    on_point: Callable[[LossPoint], None] = lambda point: None,
) -> TrainingOutcome:
    """Train the parameters of `model` that require a gradient, or go on where a killed run was.

    Args:
        scratch: where snapshots lie; the same folder at the next attempt.
        identity: what makes this training this one; a snapshot with another identity is not resumed.
        loss: mean loss of a micro-batch; absent: the model's own next-token loss.
        on_point: told each new point of the loss curve.

    Raises:
        StageFailed: a loss or a gradient is not finite; the last good snapshot is kept.
    """
    steps = total_steps(len(data), settings)
    seed_everything(machine.seed)
    trainer = _Trainer(
        model=model,
        args=_arguments(settings, steps, machine, scratch),
        train_dataset=data,
        data_collator=default_data_collator,
        callbacks=[_Watcher(steps, progress, on_point)],
    )
    trainer.follow(scratch, identity, loss)
    snapshot = snapshots.latest_snapshot(scratch, identity=identity)
    if snapshot is not None:
        state = snapshots.read_state(snapshot)
        trainer.resumed_from, trainer.seconds_before = state["resumed_from"], state["seconds"]
    if snapshot is not None and snapshots.step_of(snapshot) >= steps:  # killed after the last step
        snapshots.load_weights(snapshot, model)
        trainer.state = TrainerState.load_from_json(str(snapshot / _TRAINER_STATE))
    else:
        if snapshot is not None:
            trainer.resumed_from = [*trainer.resumed_from, snapshots.step_of(snapshot)]
        trainer.train(resume_from_checkpoint=None if snapshot is None else str(snapshot))
    done = trainer.state.global_step
    return TrainingOutcome(
        steps=done,
        tokens=samples_seen(len(data), done, settings.batch_size) * data.ids.shape[1],
        curve=curve_of(trainer.state),
        resumed_from=trainer.resumed_from,
        seconds=trainer.seconds(),
    )


def curve_of(state: TrainerState) -> list[LossPoint]:
    """The loss curve, from the log that the Trainer keeps in its state and so in every snapshot."""
    points = {}
    for entry in state.log_history:
        if "loss" in entry:
            step = int(entry["step"])
            points[step] = LossPoint(step=step, loss=entry["loss"], learning_rate=entry["learning_rate"])
    return [points[step] for step in sorted(points)]


def _arguments(settings: TrainingSettings, steps: int, machine: Machine, scratch: Path) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(scratch),
        use_cpu=machine.device.type == "cpu",
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_steps,
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.batch_size // settings.micro_batch_size,
        max_steps=steps,
        max_grad_norm=settings.max_grad_norm,
        weight_decay=0.0,
        optim="adamw_torch",
        logging_steps=max(1, steps // CURVE_POINTS),
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.checkpoint_steps,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=machine.device.type != "cpu",
        remove_unused_columns=False,
        seed=machine.seed,
        data_seed=machine.seed,
    )
    arguments._n_gpu = min(arguments._n_gpu, 1)  # one device: DataParallel would change the batch
    return arguments


class _Watcher(TrainerCallback):
    """Passes on the step and each point of the curve."""

    def __init__(self, steps: int, progress: Progress, on_point: Callable[[LossPoint], None]) -> None:
        self._steps = steps
        self._progress = progress
        self._on_point = on_point

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress(state.global_step, self._steps, "steps")

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.log_history and "loss" in state.log_history[-1]:
            self._on_point(curve_of(state)[-1])


class _Trainer(Trainer):
    """The Trainer, with snapshots of its own and a check of every loss."""

    model: Any  # set by the time that anything here is called, as are the optimizer and the schedule
    optimizer: Any
    lr_scheduler: Any

    def follow(self, folder: Path, identity: str, loss: Loss | None) -> None:
        """Say where snapshots go and what is trained."""
        self._folder = folder
        self._identity = identity
        self._own_loss = loss
        self.resumed_from: list[int] = []
        self.seconds_before = 0.0
        self._began = time.monotonic()
        if loss is not None:
            self.loss_is_scaled_for_ga = False  # a mean over the micro-batch: the Trainer divides by their number

    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self._began

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        if self._own_loss is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return self._own_loss(model, inputs)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise self._not_finite("loss", loss)
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]  # no annotations upstream
        if not torch.isfinite(torch.as_tensor(norm)):
            raise self._not_finite("gradient", norm)
        return norm

    def _not_finite(self, what: str, value: Any) -> StageFailed:
        kept = snapshots.list_snapshots(self._folder)
        last = f"The snapshot of step {snapshots.step_of(kept[-1])} is kept." if kept else "No snapshot was taken yet."
        return StageFailed(
            f"The {what} is {float(value)} at step {self.state.global_step + 1} of {self.state.max_steps}. {last} "
            'Lower the learning rate, or compute in another dtype ("bfloat16" or "float32" rather than "float16").'
        )

    # --- saving and resuming: private methods of the Trainer, as they are in the pinned version ---

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        part = snapshots.begin_snapshot(self._folder, self.state.global_step)
        snapshots.save_weights(part, self.model)
        self.state.save_to_json(str(part / _TRAINER_STATE))
        snapshots.write_state(
            part,
            identity=self._identity,
            resumed_from=self.resumed_from,
            seconds=self.seconds(),
            optimizer=snapshots.save_optimizer(part, self.optimizer.state_dict()),
            schedule=self.lr_scheduler.state_dict(),
            random=snapshots.save_random(part),
        )
        snapshots.finish_snapshot(part, keep=SNAPSHOTS_KEPT)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        snapshots.load_weights(Path(resume_from_checkpoint), self.model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state = snapshots.read_state(Path(checkpoint))
        self.optimizer.load_state_dict(snapshots.load_optimizer(Path(checkpoint), state["optimizer"]))
        self.lr_scheduler.load_state_dict(state["schedule"])

    def _load_scaler(self, checkpoint: str | None) -> None:
        """No gradient scaler is used: adapters are fp32."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            snapshots.load_random(Path(checkpoint), snapshots.read_state(Path(checkpoint))["random"])
